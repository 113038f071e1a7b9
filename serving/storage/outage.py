"""A store that fails, as its log and its callers see it."""

from __future__ import annotations

import time

from serving.errors import AisleError, Code
from serving.logs import log


class StoreFull(AisleError):
    """There is no space for anything new. What was acknowledged stays and can be read."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORE_FULL"


class Outage:
    """Logs when a store begins to fail and when it works again, but not the failed calls in between, which may be thousands. `what` names
    the store to people, `store` its kind."""

    def __init__(self, store: str, what: str = "shopper store") -> None:
        self._store, self.what = store, what
        self._since = 0.0

    def failed(self, error: str) -> None:
        if not self._since:
            self._since = time.monotonic()
            log.error(f"{self.what} fails", extra={"fields": {"store": self._store, "error": error}})

    def works(self) -> None:
        if self._since:
            fields = {"store": self._store, "seconds": time.monotonic() - self._since}
            log.info(f"{self.what} works again", extra={"fields": fields})
            self._since = 0.0
