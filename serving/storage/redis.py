"""Redis as our stores use it: how long they wait for it, and what its errors and settings mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import OutOfMemoryError

from serving.errors import AisleError, Unavailable
from serving.logs import log
from serving.storage.outage import StoreFull

CONNECT_S = 0.5
MAX_CONNECTIONS = 32
CONNECTION_WAIT_S = 0.5


def warn_of_losses(about: Mapping[str, Any], what: str) -> None:
    """Logs a warning if a Redis could lose what it acknowledged. `about` is its INFO; `what` names to people what it holds."""
    if not about.get("aof_enabled"):
        log.warning(f"redis has no append-only file: a crash of it loses {what} that were acknowledged")
    if about.get("maxmemory") and about.get("maxmemory_policy") != "noeviction":
        log.warning(f"redis may evict {what}", extra={"fields": {"policy": about["maxmemory_policy"]}})


def to_caller(error: Exception, what: str) -> AisleError:
    """Returns the error for the caller. `what` names the store."""
    if isinstance(error, OutOfMemoryError):
        return StoreFull(f"the {what} has no memory left")
    return Unavailable(f"the {what} cannot be reached; send the call again")
