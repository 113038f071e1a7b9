"""Opens the shopper store that the configuration names."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serving.config import ConfigError, ShoppersConfig, redis_url
from serving.shoppers.sqlite_file import create
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention, ShopperStore
from serving.storage.state_path import state_path


async def open_shoppers(config: ShoppersConfig, catalogue: str) -> ShopperStore | None:
    """Opens the store of a catalogue; returns None if the store is off. Raises ConfigError."""
    retention = Retention(config.max_events_per_shopper, config.retention_days)
    if config.store == "sqlite":
        return await SqliteStore.open(sqlite_path(config, catalogue), retention, config.sync)
    if config.store == "redis":
        _check_redis(config)
        from serving.shoppers.redis_store import RedisStore

        return await RedisStore.open(redis_url(config), retention)
    return None


def check_shoppers(config: ShoppersConfig, catalogue: str) -> None:
    """Raises ConfigError if the store could not be opened. A Redis that cannot be reached is no error: it may come up later."""
    if config.store == "sqlite":
        create(sqlite_path(config, catalogue), config.sync, config.max_events_per_shopper).close()
    if config.store == "redis":
        _check_redis(config)


async def purge_shoppers(config: ShoppersConfig, catalogue: str) -> int:
    """Deletes the expired events of an SQLite store, and makes its services believe the clock. Returns their number.

    Raises ConfigError.
    """
    if config.store != "sqlite":
        raise ConfigError(
            f"shoppers.store is '{config.store}'; only events in SQLite are purged, those in Redis expire"
        )
    retention = Retention(config.max_events_per_shopper, config.retention_days)
    store = await asyncio.to_thread(SqliteStore, sqlite_path(config, catalogue), retention, config.sync)
    try:
        return await store.purge()
    finally:
        await store.close()


def sqlite_path(config: ShoppersConfig, catalogue: str) -> Path:
    """Returns the SQLite file of a catalogue's store. Raises ConfigError."""
    return config.path or state_path(catalogue, ".db", "shoppers.path")


def _check_redis(config: ShoppersConfig) -> None:
    try:
        from serving.shoppers.redis_store import RedisStore

        RedisStore(redis_url(config), Retention())
    except ModuleNotFoundError as error:
        raise ConfigError(f"shoppers.store = 'redis' needs the package {error.name}: pip install redis") from None
    except ConfigError:
        raise
    except ValueError:  # its message may contain the password
        raise ConfigError("shoppers.url: is not a URL that Redis clients understand") from None
