"""What a log lacks is filled in: sessions by gaps when it is opened, the locale and queries from titles when it is mended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from models.events.event import EVENT_SCHEMA
from models.events.event_log import EventLog
from models.events.sessions import SESSION_GAP_MS
from models.unified.mended_log import mend_log
from models.unified.shopping_log import ShoppingLog

MINUTE = 60_000


def table(*rows: tuple[int, str, str, str], **same: str) -> pa.Table:
    """Events as (minute, shopper, session, product)."""
    return pa.Table.from_pylist(
        [
            {
                "id": f"e{at}",
                "time": minute * MINUTE,
                "shopper_id": shopper,
                "session_id": session,
                "locale": same.get("locale", "en-US"),
                "kind": same.get("kind", "click"),
                "product_id": product,
                "query": same.get("query", "sofa"),
                "position": None,
                "price_minor": None,
            }
            for at, (minute, shopper, session, product) in enumerate(rows)
        ],
        EVENT_SCHEMA,
    )


def log(*rows: tuple[int, str, str, str], **same: str) -> EventLog:
    return EventLog.from_table(table(*rows, **same))


def column(events: EventLog, name: str) -> list[str]:
    return list(events.table(np.arange(len(events)))[name].to_pylist())


def sessions(events: EventLog) -> list[str]:
    return column(events, "session_id")


def test_a_session_ends_with_a_gap_of_half_an_hour() -> None:
    gap = SESSION_GAP_MS // MINUTE
    first, other, same, later = sessions(
        log((0, "ann", "", "A"), (gap, "ann", "", "B"), (2 * gap + 1, "ann", "", "C"), (1, "bob", "", "A"))
    )
    assert first == same
    assert len({first, later, other}) == 3


def test_anonymous_events_without_a_session_are_each_alone() -> None:
    events = log((0, "", "", "A"), (0, "", "", "B"), (0, "ann", "", "C"))
    assert len(set(sessions(events))) == 3
    assert ShoppingLog.from_log(events, ["A", "B", "C"]).num_shoppers == 3


def test_a_stated_session_stays() -> None:
    whole = log((0, "ann", "s1", "A"), (99, "", "s2", "B"))
    assert sessions(whole) == ["s1", "s2"]
    assert whole.num_without_session == 0
    assert sessions(log((0, "ann", "s1", "A"), (1, "ann", "", "B")))[0] == "s1"


def test_events_in_any_order_get_the_same_sessions() -> None:
    rows = ((0, "ann", "", "A"), (50, "ann", "", "B"), (5, "ann", "", "C"))
    assert sessions(log(*rows)) == sessions(log(*rows[::-1]))


def test_an_empty_locale_becomes_the_default_and_is_counted() -> None:
    mended = mend_log(log((0, "ann", "s", "A"), locale=""), "sv-SE")
    assert column(mended.log, "locale") == ["sv-SE"]
    assert (mended.without_locale, mended.without_session) == (1, 0)


def test_queries_come_from_titles() -> None:
    views = log(*((at, "ann", "s", "AB"[at % 2]) for at in range(40)), query="")
    mended = mend_log(views, "en-US", {"A": "red velvet sofa bed", "B": "blue wool rug"})
    assert mended.titled == 40
    queries = column(mended.log, "query")
    words = {"A": {"red", "velvet", "sofa", "bed"}, "B": {"blue", "wool", "rug"}}
    own = [set(query.split()) <= words["AB"[at % 2]] for at, query in enumerate(queries)]
    before = [query == ("red velvet sofa bed", "blue wool rug")[(at + 1) % 2] for at, query in enumerate(queries)]
    assert all(one or other for one, other in zip(own, before, strict=True))
    assert any(own)
    assert any(before)


def test_what_was_viewed_in_another_session_is_no_query() -> None:
    views = log(*((at, "ann", f"s{at}", "AB"[at % 2]) for at in range(40)), query="")
    mended = mend_log(views, "en-US", {"A": "sofa", "B": "rug"})
    assert column(mended.log, "query") == ["sofa", "rug"] * 20


def test_impressions_and_products_without_a_title_get_no_query() -> None:
    shown = mend_log(log((0, "ann", "s", "A"), query="", kind="impression"), "en-US", {"A": "sofa"})
    assert (shown.titled, shown.is_changed) == (0, False)
    assert mend_log(log((0, "ann", "s", "C"), query=""), "en-US", {"A": "sofa"}).titled == 0


def test_a_log_that_lacks_nothing_stays_where_it_is(tmp_path: Path) -> None:
    original = tmp_path / "log.parquet"
    assert mend_log(log((0, "ann", "s", "A")), "en-US").write(original, tmp_path / "new") == original
    assert not (tmp_path / "new").exists()
    changed = mend_log(log((0, "ann", "", "A"), locale=""), "en-US")
    path = changed.write(original, tmp_path / "new")
    assert path.read_bytes() == changed.write(original, tmp_path / "other").read_bytes()
    assert ShoppingLog.read(path, ["A"]).num_shoppers == 1
