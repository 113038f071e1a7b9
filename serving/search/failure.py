"""Why an optional part of a search failed, in words for its caller. The search goes on without the part."""

from __future__ import annotations

from serving.errors import AisleError
from serving.logs import log


def reason_of(part: str, error: Exception) -> str:
    """Returns the reason. An error that is not meant for callers, a bug say, goes to the log with its traceback."""
    if isinstance(error, AisleError):
        return f"{part} failed: {error.message}"
    log.error("an optional part of a search failed", exc_info=error, extra={"fields": {"part": part}})
    return f"{part} failed; the server's log says why"
