"""Until when a bundle has learned: it may be measured on later searches alone."""

from __future__ import annotations

from datetime import UTC, datetime

from models.bundles.bundle import Bundle
from models.events.errors import LogError
from models.events.event_log import EventLog
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import read_spec


def retrieval_learned_until(bundle: Bundle) -> int:
    """Returns the time (ms since 1970) before which lie the events that the unified model learned from. Raises BundleError without one."""
    return int(read_spec(UNIFIED_PART.open(bundle))["until_ms"])


def learned_until(bundle: Bundle) -> int:
    """Returns the same for retrieval and ranker together, with what the ranker knows of earlier clicks."""
    ranker = bundle.manifest.ranker
    last_page = int(ranker.get("last_page_ms", -1)) + 1
    return max(retrieval_learned_until(bundle), last_page, int(ranker.get("clicks_until_ms", 0)))


def check_later(log: EventLog, learned: int) -> None:
    """Raises LogError unless the log has events from `learned` (ms since 1970) on."""
    if not len(log) or int(log.time_ms[-1]) < learned:
        ends = f"the log ends at {utc(int(log.time_ms[-1]))}" if len(log) else "the log is empty"
        raise LogError(
            f"the bundle learned from events until {utc(learned)}, and {ends}: no later search is left to measure it on. Give a longer "
            "log, or a bundle that was trained on less of it: 'aisle train unified' keeps the last part of its log back"
        )


def utc(time_ms: int) -> str:
    """Returns a time as "2026-01-31 12:00 UTC"."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
