"""Log lines: one an event, readable by people or machines, from other processes too, and never in the way."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.logs import MAX_LINE, LineCollector, LineFormat, captured_output, configure_logging, log, logged_failure


def record(
    event: str, fields: dict[str, object] | None = None, error: BaseException | None = None
) -> logging.LogRecord:
    made = logging.LogRecord(
        "aisle", logging.INFO, __file__, 1, event, None, (type(error), error, None) if error else None
    )
    if fields is not None:
        made.fields = fields
    return made


@pytest.fixture(autouse=True)
def own_logger() -> Iterator[None]:
    """Leaves the logger of the process as it was."""
    before = (log.handlers[:], log.level, log.propagate)
    yield
    for handler in log.handlers:
        if handler not in before[0]:
            handler.close()
    log.handlers[:], log.level, log.propagate = before
    log.setLevel(before[1])


@contextmanager
def collected(folder: Path, style: str = "json") -> Iterator[io.StringIO]:
    shown = io.StringIO()
    with redirect_stderr(shown):
        collector = LineCollector(folder / "log.sock")
    configure_logging(style, "info", str(collector.path))
    try:
        yield shown
    finally:
        collector.close()


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dictionaries(st.text(min_size=1), st.text() | st.floats() | st.none()),
)
def test_a_json_line_is_one_line_and_holds_what_was_said(event: str, fields: dict[str, object]) -> None:
    line = LineFormat("json").format(record(event.replace("%", "%%"), fields))
    assert "\n" not in line
    read = json.loads(line)
    assert set(fields) <= set(read)
    assert {"at", "level", "event", "pid"} <= set(read)


@given(st.dictionaries(st.just("error"), st.text(), min_size=1))
def test_a_text_line_is_one_printable_line(fields: dict[str, object]) -> None:
    line = LineFormat("text").format(record("call", fields))
    assert line.isprintable()
    assert " info    call error=" in line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("OK", "OK"),
        (1.25, "1.2"),
        ("two words", '"two words"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\u001b[31m"'),
    ],
)
def test_values_of_a_text_line(value: object, shown: str) -> None:
    assert LineFormat("text").format(record("call", {"v": value})).endswith(f" v={shown}")


def test_what_json_does_not_know_is_written_as_text(tmp_path: Path) -> None:
    assert json.loads(LineFormat("json").format(record("x", {"path": tmp_path})))["path"] == str(tmp_path)


def test_a_long_traceback_leaves_the_line_whole(tmp_path: Path) -> None:
    with collected(tmp_path) as shown:
        log.error("failed", exc_info=ValueError('"\x01' * MAX_LINE))
    assert json.loads(shown.getvalue())["event"] == "failed"


@pytest.mark.parametrize("text", ["x" * MAX_LINE, "\x01" * MAX_LINE, "😀" * MAX_LINE, '"' * MAX_LINE], ids="x1😀q")
def test_a_long_text_leaves_the_line_whole(tmp_path: Path, text: str) -> None:
    with collected(tmp_path) as shown:
        log.info("call", extra={"fields": {"error": text, "ms": 1.0}})
    line = json.loads(shown.getvalue())
    assert line["ms"] == 1.0
    assert text.startswith(line["error"].removesuffix("..."))


def test_lines_come_to_the_collector_in_order(tmp_path: Path) -> None:
    with collected(tmp_path) as shown:
        for n in range(5):
            log.info("event", extra={"fields": {"n": n}})
    assert numbers(shown.getvalue()) == list(range(5))
    assert not (tmp_path / "log.sock").exists()


def test_what_the_collector_has_no_room_for_is_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A socket holds 10 or so lines; nobody waits for more room."""
    with collected(tmp_path) as shown:
        for n in range(500):
            log.info("event", extra={"fields": {"n": n}})
    came, fell_back = numbers(shown.getvalue()), numbers(capsys.readouterr().err)
    assert sorted(came + fell_back) == list(range(500))
    assert came == sorted(came)


def numbers(lines: str) -> list[int]:
    return [json.loads(line)["n"] for line in lines.splitlines()]


def test_without_a_collector_they_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with collected(tmp_path):
        pass
    log.info("after the end")
    assert "after the end" in capsys.readouterr().err
    configure_logging("text", "info", str(tmp_path / "none.sock"))
    log.handlers[0].setStream(sys.stderr)  # type: ignore[attr-defined]
    log.info("never there")
    assert "never there" in capsys.readouterr().err


def test_half_a_character_does_not_stop_an_answer(tmp_path: Path) -> None:
    with collected(tmp_path) as shown:
        log.info("odd", extra={"fields": {"v": "\ud800"}})
    assert "odd" in shown.getvalue()


def test_what_is_below_the_level_is_not_written(tmp_path: Path) -> None:
    with collected(tmp_path) as shown:
        log.debug("unseen")
    assert shown.getvalue() == ""


def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    with collected(tmp_path):
        assert (tmp_path / "log.sock").stat().st_mode & 0o077 == 0


def test_what_any_code_prints_is_logged_line_by_line(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output() as terminal:
        configure_logging("json", "info", out=terminal.err)
        os.write(2, b"\x1b[33m(raylet)\x1b[0m it died\n\n")
        print("on stdout", file=sys.__stdout__, flush=True)
        print("half", end="", file=sys.__stderr__, flush=True)
        log.info("ours")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {(line["event"], line.get("line", "")) for line in lines} == {
        ("ray", "(raylet) it died"),
        ("ray", "on stdout"),
        ("ray", "half"),
        ("ours", ""),
    }


def test_a_stream_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    gone = (tmp_path / "log").open("w")
    configure_logging("json", "info", out=gone)
    gone.close()
    log.info("unseen")


def test_what_cannot_start_is_logged_with_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info", out=sys.stderr)
    with pytest.raises(ValueError, match="no model"), logged_failure("gateway"):
        raise ValueError("no model\nmore")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["error"]) == ("gateway cannot start", "no model")
    assert "Traceback" in line["exception"]
