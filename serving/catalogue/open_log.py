"""Opens the log of changes that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.catalogue.log import ChangeLog
from serving.catalogue.sqlite_log import SqliteLog, create
from serving.config import CatalogueConfig, ConfigError, redis_url
from serving.storage.state_path import state_path


def open_log(config: CatalogueConfig, name: str, catalogue: str, begins_after: int = 0) -> ChangeLog | None:
    """Opens the log of a catalogue; returns None if it takes no changes. `name` is that of the bundle, `catalogue` the line of generations
    that the changes belong to, `begins_after` the last change that the bundle was built with. Waits for the store. Raises ConfigError."""
    if config.log == "sqlite":
        return SqliteLog(log_path(config, name), catalogue, config.sync, begins_after)
    if config.log == "redis":
        _check_redis(config)
        from serving.catalogue.redis_log import RedisLog

        return RedisLog.open(redis_url(config), name, catalogue, begins_after)
    return None


def check_log(config: CatalogueConfig, name: str, catalogue: str, begins_after: int = 0) -> None:
    """Raises ConfigError if the log could not be opened. A Redis that cannot be reached is no error: it may come up later."""
    if config.log == "sqlite":
        connection, page = create(log_path(config, name), catalogue, config.sync, begins_after)
        connection.close()
        page.close()
    if config.log == "redis":
        _check_redis(config)


@contextmanager
def build_lease(config: CatalogueConfig, name: str) -> Iterator[Callable[[], None]]:
    """Lets one of the services that share a log build a generation, until the block ends. What it yields raises ConfigError once another
    may build. For the services of one machine the lock of the bundle's folder does the same. Raises ConfigError, Unavailable."""
    if config.log == "redis":
        from serving.catalogue.lease import hold_lease

        with hold_lease(redis_url(config), name) as check:
            yield check
    else:
        yield lambda: None


def log_path(config: CatalogueConfig, name: str) -> Path:
    """Returns the file of a log in SQLite."""
    return config.path or state_path(name, "-changes.db", "catalogue.path")


def _check_redis(config: CatalogueConfig) -> None:
    try:
        from serving.catalogue.redis_log import RedisLog

        RedisLog(redis_url(config), "", "")
    except ModuleNotFoundError as error:
        raise ConfigError(f"catalogue.log = 'redis' needs the package {error.name}: pip install redis") from None
    except ConfigError:
        raise
    except ValueError:  # its message may contain the password
        raise ConfigError("catalogue.url: is not a URL that Redis clients understand") from None
