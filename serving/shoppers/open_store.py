"""Opens the shopper store that the configuration names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from serving.config import ConfigError, ShoppersConfig
from serving.shoppers.sqlite_file import create
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import Retention, ShopperStore


async def open_shoppers(config: ShoppersConfig, catalogue: str) -> ShopperStore | None:
    """Opens the store of a catalogue; returns None if the store is off. Raises ConfigError."""
    retention = Retention(config.max_events_per_shopper, config.retention_days)
    if config.store == "sqlite":
        return await SqliteStore.open(_path(config, catalogue), retention, config.sync)
    if config.store == "redis":
        _check_redis(config)
        from serving.shoppers.redis_store import RedisStore

        return await RedisStore.open(_url(config), retention)
    return None


def check_shoppers(config: ShoppersConfig, catalogue: str) -> None:
    """Raises ConfigError if the store could not be opened. A Redis that cannot be reached is no error: it may come up later."""
    if config.store == "sqlite":
        create(_path(config, catalogue), config.sync, config.max_events_per_shopper).close()
    if config.store == "redis":
        _check_redis(config)


def _path(config: ShoppersConfig, catalogue: str) -> Path:
    """Returns the configured path; by default a file in the user's state folder (XDG base directories). Raises ConfigError."""
    if config.path:
        return config.path
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        folder = folder if folder.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigError("shoppers.path: this user has no home folder; set the path of the file") from None
    return folder / "aisle" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', catalogue)}.db"


def _url(config: ShoppersConfig) -> str:
    return config.url.get_secret_value() if config.url else ""


def _check_redis(config: ShoppersConfig) -> None:
    try:
        from serving.shoppers.redis_store import RedisStore

        RedisStore(_url(config), Retention())
    except ModuleNotFoundError as error:
        raise ConfigError(f"shoppers.store = 'redis' needs the package {error.name}: pip install redis") from None
    except ValueError:  # its message may contain the password
        raise ConfigError("shoppers.url: is not a URL that Redis clients understand") from None
