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
    """The store of a served catalogue; None when it is off. Raises ConfigError."""
    retention = Retention(config.max_events_per_shopper, config.retention_days)
    if config.store == "sqlite":
        return await SqliteStore.open(_path(config, catalogue), retention, config.sync)
    if config.store == "redis":
        _check_redis(config)
        from serving.shoppers.redis_store import RedisStore

        return await RedisStore.open(_url(config), retention)
    return None


def check_shoppers(config: ShoppersConfig, catalogue: str) -> None:
    """Refuses what could not be opened. A Redis may still be away: it is waited for while serving. Raises ConfigError."""
    if config.store == "sqlite":
        create(_path(config, catalogue), config.sync, config.max_events_per_shopper).close()
    if config.store == "redis":
        _check_redis(config)


def _path(config: ShoppersConfig, catalogue: str) -> Path:
    """By default among the files that a program of this user keeps between runs (XDG base directories)."""
    if config.path:
        return config.path
    stated = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        state = stated if stated.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigError("shoppers.path: this user has no home folder; say where the file shall be") from None
    return state / "aisle" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', catalogue)}.db"


def _url(config: ShoppersConfig) -> str:
    return config.url.get_secret_value() if config.url else ""


def _check_redis(config: ShoppersConfig) -> None:
    try:
        from serving.shoppers.redis_store import RedisStore

        RedisStore(_url(config), Retention())
    except ModuleNotFoundError as error:
        raise ConfigError(f"shoppers.store = 'redis' needs the package {error.name}: pip install redis") from None
    except ValueError:  # its words may hold the password
        raise ConfigError("shoppers.url: is not a URL that Redis clients understand") from None
