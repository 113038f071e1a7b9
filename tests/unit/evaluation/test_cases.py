"""Cases are searches after the window, and know of their shopper only what came before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.cases import Cases, Split, build_cases
from models.evaluation.numbered_log import NumberedLog, numbered_log, read_log
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, EventKind
from models.events.event_log import EventLog
from models.events.searches import plain_query

PRODUCTS = tuple("abcdefgh")
SPLIT = Split(train_end_ms=100)

# time, shopper, session, kind, product, query
Row = tuple[int, str, str, str, str, str]


def table(rows: list[Row], locale: str = "en-US") -> pa.Table:
    values = [
        {
            "id": f"e{number}",
            "time": time,
            "shopper_id": shopper,
            "session_id": session,
            "locale": locale,
            "kind": kind,
            "product_id": product,
            "query": query,
            "position": None,
            "price_minor": None,
        }
        for number, (time, shopper, session, kind, product, query) in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, EVENT_SCHEMA)


def log_of(rows: list[Row]) -> NumberedLog:
    return numbered_log(table(rows), PRODUCTS)


def relevant_of(cases: Cases, case: int) -> dict[str, float]:
    pairs = cases.engaged.cases == case
    rows, grades = cases.engaged.rows[pairs], cases.engaged.grades[pairs]
    return {PRODUCTS[row]: grade for row, grade in zip(rows, grades, strict=True)}


def history_of(cases: Cases, case: int) -> str:
    starts, stops = cases.history_slices()
    events = cases.histories.rows[starts[case] : stops[case]]
    return "".join(PRODUCTS[row] for row in cases.events.products[events])


def bucket_of(cases: Cases, name: str) -> list[str]:
    bucket = cases.buckets[name]
    return [bucket.values[code] for code in bucket.codes]


LOG: list[Row] = [
    (10, "u1", "s1", "impression", "a", "Sofa"),
    (11, "u1", "s1", "click", "a", "Sofa"),
    (12, "u1", "s1", "purchase", "a", "Sofa"),
    (20, "u2", "s2", "click", "b", "lamp"),
    (99, "u2", "s3", "impression", "c", "desk"),
    (101, "u2", "s3", "purchase", "c", "desk"),  # its search began within the window
    (110, "u1", "s4", "impression", "b", "sofa"),
    (110, "u1", "s4", "impression", "d", "sofa"),
    (111, "u1", "s4", "click", "b", "sofa"),
    (112, "u1", "s4", "click", "d", "sofa"),
    (113, "u1", "s4", "cart", "d", "sofa"),
    (114, "u1", "s4", "purchase", "d", "sofa"),
    (120, "", "s5", "click", "b", "lamp"),  # no purchase, so no case of purchases
    (125, "", "s5", "purchase", "a", "red  SOFA"),
    (130, "u3", "s6", "purchase", "a", ""),  # no search led to it
    (140, "u1", "s7", "purchase", "e", "sofa"),
    (141, "u1", "s7", "purchase", "unknown", "sofa"),
]


def test_a_case_is_a_search_after_the_window_that_led_to_a_purchase() -> None:
    cases = build_cases(log_of(LOG), SPLIT)
    assert cases.texts == ["sofa", "red sofa", "sofa"]
    assert cases.events.times_ms[cases.first_events].tolist() == [110, 125, 140]
    assert [PRODUCTS[row] for row in cases.relevant.rows] == ["d", "a", "e"]
    assert cases.relevant.grades.tolist() == [1.0, 1.0, 1.0]


def test_all_that_a_search_led_to_is_graded_by_the_strongest_sign() -> None:
    cases = build_cases(log_of(LOG), SPLIT)
    assert relevant_of(cases, 0) == {"b": 1.0, "d": 3.0}
    assert relevant_of(cases, 1) == {"a": 3.0}


def test_clicks_can_be_the_target() -> None:
    cases = build_cases(log_of(LOG), SPLIT, target=EventKind.CLICK)
    assert cases.texts == ["sofa", "lamp", "red sofa", "sofa"]
    assert cases.relevant.counts.tolist() == [2, 1, 1, 1]
    with pytest.raises(ValueError, match="only shown"):
        build_cases(log_of(LOG), SPLIT, target=EventKind.IMPRESSION)


def test_a_history_holds_what_the_shopper_did_before_the_search_and_nothing_of_it() -> None:
    cases = build_cases(log_of(LOG), SPLIT)
    assert history_of(cases, 0) == "aa"
    assert history_of(cases, 1) == "b"  # an anonymous session knows its own past
    assert history_of(cases, 2) == "aabddd"


def test_what_happens_in_the_same_millisecond_is_not_known_before() -> None:
    rows: list[Row] = [
        (1, "u1", "s0", "click", "a", "lamp"),
        (200, "u1", "s1", "purchase", "b", "lamp"),
        (200, "u1", "s1", "purchase", "c", "sofa"),
    ]
    cases = build_cases(log_of(rows), SPLIT)
    assert [history_of(cases, case) for case in range(2)] == ["a", "a"]


def test_buckets_say_what_was_known_before_the_case() -> None:
    cases = build_cases(log_of(LOG), SPLIT)
    assert bucket_of(cases, "query") == ["head", "unseen", "head"]
    assert bucket_of(cases, "shopper") == ["occasional", "occasional", "occasional"]
    assert bucket_of(cases, "product") == ["new", "seen", "new"]
    assert bucket_of(cases, "locale") == ["en-US"] * 3


@pytest.mark.parametrize(
    ("prior", "bucket"), [(0, "anonymous"), (1, "occasional"), (9, "occasional"), (10, "habitual")]
)
def test_shoppers_are_told_apart_by_the_events_before(prior: int, bucket: str) -> None:
    rows: list[Row] = [(n, "u1", f"s{n}", "click", "a", "lamp") for n in range(prior)]
    rows += [(50, "u1", "s", "impression", "a", "lamp"), (200, "u1", "t", "purchase", "b", "sofa")]
    assert bucket_of(build_cases(log_of(rows), SPLIT), "shopper") == [bucket]


def test_queries_are_head_torso_or_tail_by_their_share_of_the_searches() -> None:
    asked = ["sofa"] * 6 + ["lamp"] * 3 + ["desk", "rug"]
    rows: list[Row] = [(n, "u", f"s{n}", "impression", "a", query) for n, query in enumerate(asked)]
    rows += [(n, "u", "s0", "impression", "b", "rug") for n in range(10, 40)]  # one more search, however many events
    rows += [(200 + n, "u", f"t{n}", "purchase", "a", query) for n, query in enumerate(["sofa", "lamp", "desk", "bed"])]
    assert bucket_of(build_cases(log_of(rows), SPLIT), "query") == ["head", "torso", "tail", "unseen"]


def test_permuted_histories_are_other_shoppers() -> None:
    rows: list[Row] = [(n, f"u{n % 7}", f"s{n}", "click", "abcdefg"[n % 7], "lamp") for n in range(70)]
    rows += [(200 + n, f"u{n % 9}", f"t{n}", "purchase", "h", "sofa") for n in range(27)]
    cases = build_cases(log_of(rows), SPLIT)
    starts, stops = cases.history_slices()
    permuted = cases.with_permuted_histories(seed=1)
    new_starts, new_stops = permuted.history_slices()
    known = stops > starts
    assert (known == (new_stops > new_starts)).all()
    for case in np.flatnonzero(known):
        own = set(cases.histories.owners[cases.histories.rows[starts[case] : stops[case]]])
        given = set(cases.histories.owners[cases.histories.rows[new_starts[case] : new_stops[case]]])
        assert own.isdisjoint(given)
    assert sorted(permuted.moments) == sorted(cases.moments)
    starts, stops = cases.without_histories().history_slices()
    assert (starts == stops).all()


def test_a_cap_draws_a_sample_that_the_seed_decides() -> None:
    rows: list[Row] = [(n, "u", "s", "impression", "a", "lamp") for n in range(3)]
    rows += [(200 + n, f"u{n}", f"s{n}", "purchase", PRODUCTS[n % 8], f"sofa {n}") for n in range(50)]
    everything = build_cases(log_of(rows), SPLIT)
    sample = build_cases(log_of(rows), SPLIT, max_cases=10, seed=1)
    assert len(sample) == 10
    assert set(sample.texts) < set(everything.texts)
    assert sample.texts == build_cases(log_of(rows), SPLIT, max_cases=10, seed=1).texts
    assert sample.texts != build_cases(log_of(rows), SPLIT, max_cases=10, seed=2).texts
    at = [everything.texts.index(text) for text in sample.texts]
    assert sample.relevant.rows.tolist() == everything.relevant.rows[at].tolist()


def test_cases_end_with_the_test_window() -> None:
    assert build_cases(log_of(LOG), Split(100, 121)).texts == ["sofa"]
    with pytest.raises(ValueError, match="no search after the training window"):
        build_cases(log_of(LOG), Split(1000))
    with pytest.raises(ValueError, match="must be after train_end_ms 100"):
        Split(100, 100)


rows_of_any_log = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.sampled_from(["", "u1", "u2"]),
        st.sampled_from(["s1", "s2", "s3"]),
        st.sampled_from(list(map(str, EventKind))),
        st.sampled_from([*PRODUCTS[:4], "unknown"]),
        st.sampled_from(["", "sofa", "Sofa", "lamp"]),
    ),
    min_size=1,
    max_size=40,
)


@given(rows=rows_of_any_log)
def test_cases_are_those_that_a_loop_finds(rows: list[Row]) -> None:
    rows = [(time, shopper, shopper + session, *rest) for time, shopper, session, *rest in rows]  # type: ignore[misc]
    searches: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[0]):
        if row[5]:
            searches.setdefault((row[2], plain_query(row[5])), []).append(row)
    expected = {
        key: {r[4] for r in found if r[3] == "purchase" and r[4] in PRODUCTS}
        for key, found in searches.items()
        if found[0][0] >= 100
    }
    expected = {key: bought for key, bought in expected.items() if bought}
    if not expected:
        with pytest.raises(ValueError, match="no search"):
            build_cases(log_of(rows), SPLIT)
        return
    cases = build_cases(log_of(rows), SPLIT)
    log = EventLog.from_table(table(rows))
    assert log.sessions is not None
    sessions = [log.sessions[int(log.session[event])].as_py() for event in cases.first_events]
    found = {
        (session, text): {PRODUCTS[row] for row in cases.relevant.rows[cases.relevant.cases == case]}
        for case, (session, text) in enumerate(zip(sessions, cases.texts, strict=True))
    }
    assert found == expected
    starts, stops = cases.history_slices()
    for case, event in enumerate(cases.first_events):
        begun, owner = cases.events.times_ms[event], cases.events.owners[event]
        known = [
            row
            for row in range(len(cases.events))
            if cases.events.owners[row] == owner
            and cases.events.times_ms[row] < begun
            and cases.events.kinds[row] >= 1
            and cases.events.products[row] >= 0
        ]
        assert cases.histories.rows[starts[case] : stops[case]].tolist() == known


class TestReading:
    def test_a_folder_is_read_as_one_log(self, tmp_path: Path) -> None:
        pq.write_table(table(LOG[8:]), tmp_path / "b.parquet")
        pq.write_table(
            table(LOG[:8]).set_column(0, "id", pa.array([f"x{n}" for n in range(8)])), tmp_path / "a.parquet"
        )
        log, whole = read_log(tmp_path, PRODUCTS), log_of(LOG)
        assert log.times_ms.tolist() == whole.times_ms.tolist()
        assert [log.query_names[q] for q in log.queries] == [whole.query_names[q] for q in whole.queries]
        assert np.count_nonzero(log.products < 0) == 1

    def test_an_event_that_comes_twice_counts_once(self) -> None:
        log = numbered_log(pa.concat_tables([table(LOG), table(LOG[:5])]), PRODUCTS)
        assert (len(log), log.num_repeated) == (len(LOG), 5)
        assert log.times_ms.tolist() == log_of(LOG).times_ms.tolist()

    def test_events_out_of_order_are_put_in_order(self) -> None:
        log = numbered_log(table(LOG).take(list(range(len(LOG)))[::-1]), PRODUCTS)
        assert (np.diff(log.times_ms) >= 0).all()
        assert build_cases(log, SPLIT).texts == build_cases(log_of(LOG), SPLIT).texts

    def test_a_log_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="has no column id, time"):
            read_log(tmp_path, PRODUCTS)
        pq.write_table(table(LOG).drop_columns(["query", "kind"]), tmp_path / "a.parquet")
        with pytest.raises(
            LogError,
            match=r"a\.parquet: the log has no column kind, query; .*'aisle import FILE --out LOG' makes a log",
        ):
            read_log(tmp_path / "a.parquet", PRODUCTS)
        with pytest.raises(LogError, match="no event"):
            numbered_log(table([]), PRODUCTS)
        with pytest.raises(LogError, match="column kind holds 'wink'"):
            log_of([(1, "u", "s", "wink", "a", "sofa")])

    def test_queries_are_the_same_whatever_their_case_and_blanks(self) -> None:
        assert plain_query("  Café \t TABLE ") == plain_query("cafe\u0301 table") == "café table"
