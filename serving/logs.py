"""The log: one line per event, as text or JSON, collected from all processes by the one that was started.

Ray prefixes what its workers print, which breaks JSON. So the processes of one machine send their lines to `aisle serve` over a Unix
socket. A process without that socket writes to its own stderr, a file in Ray's log folder. What Ray itself prints in `aisle serve`, in
colours and over several lines, becomes one event for each line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

LOGGER = "aisle"
MAX_LINE = 60_000  # bytes of one datagram
MAX_FIELD_CHARS = 4_000  # of a text that a caller may have sent
MAX_EXCEPTION_CHARS = (
    12_000  # the last of a traceback. JSON may write a character as four, and the line must fit a datagram
)

log = logging.getLogger(LOGGER)
# Of the call whose work this is, if its caller named one or it is traced.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class LineFormat(logging.Formatter):
    """Formats `log.info("event", extra={"fields": {...}})` as text or JSON."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {name: _bounded(value) for name, value in getattr(record, "fields", {}).items()}
        if trace_id := TRACE_ID.get():
            fields["trace_id"] = trace_id
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)[-MAX_EXCEPTION_CHARS:]
        if self._json:
            line = {
                "at": at,
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                "pid": record.process,
                **fields,
            }
            return json.dumps(line, ensure_ascii=False, default=str)
        pairs = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        return f"{at} {record.levelname.lower():<7} {record.getMessage()} {pairs}".rstrip()


class SocketHandler(logging.Handler):
    """Sends formatted lines to a `LineCollector` and never waits for it.

    The standard library's DatagramHandler pickles records, blocks on a full buffer and drops what it cannot send.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        try:
            self._socket.sendto(line.encode(errors="replace")[:MAX_LINE], self._path)
        except OSError:  # the collector is gone or its buffer is full: logging must not delay an answer
            print(line, file=sys.stderr, flush=True)


class LineCollector:
    """Prints on `out`, by default stderr, the lines that other processes send to the Unix socket `path`."""

    def __init__(self, path: Path, out: TextIO | None = None) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        os.chmod(path, 0o600)
        self.path = path
        self._out = out or sys.stderr  # the stream of now: `sys.stderr` may be redirected later
        self._thread = threading.Thread(target=self._print, daemon=True, name="aisle-log")
        self._thread.start()

    def _print(self) -> None:
        while line := self._socket.recv(MAX_LINE):
            with contextlib.suppress(OSError):  # whoever read stderr is gone
                print(line.decode(errors="replace"), file=self._out, flush=True)

    def close(self) -> None:
        """Prints what was sent before, then ends. An empty datagram ends the thread: closing its socket would not wake it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.settimeout(1.0)
            with contextlib.suppress(OSError):
                last.sendto(b"", str(self.path))
        self._thread.join(1.0)
        self._socket.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The streams that a process was started with."""

    out: TextIO
    err: TextIO


@contextlib.contextmanager
def captured_output() -> Iterator[Terminal]:
    """Logs every line that any code of this process, Ray's C++ too, writes to stdout or stderr until the block ends. Yields the streams
    that it would have come to; the log goes to the second."""
    with _duplicate(1) as out, _duplicate(2) as err:
        reader, writer = os.pipe()
        for descriptor in (1, 2):
            os.dup2(writer, descriptor)
        os.close(writer)
        thread = threading.Thread(target=_log_lines, args=(reader,), daemon=True, name="aisle-output")
        thread.start()
        try:
            yield Terminal(out, err)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # The writer's last copies, unless a child has one: the thread reads to the end.
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            thread.join(1.0)


def _duplicate(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="backslashreplace", buffering=1)


def _log_lines(reader: int) -> None:
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if text := _COLOURS.sub("", line).strip():
                log.warning("ray", extra={"fields": {"line": text[:MAX_EXCEPTION_CHARS]}})


class _StreamHandler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of `logging`
        """Drops a line that cannot be written. `logging` would complain on stderr, which may be what failed, or what is being logged."""


def configure_logging(style: str, level: str, collector: str = "", out: TextIO | None = None) -> None:
    """Sends the Aisle log of this process to the socket of a collector, or to `out`, by default stderr, if there is none."""
    reachable = collector and Path(collector).exists()
    handler: logging.Handler = SocketHandler(collector) if reachable else _StreamHandler(out or sys.stderr)
    handler.setFormatter(LineFormat(style))
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


@contextlib.contextmanager
def logged_failure(what: str) -> Iterator[None]:
    """Logs the error that ends the block, with its traceback. For what a replica does to start: Serve reports errors of its own."""
    try:
        yield
    except Exception as error:
        log.error(f"{what} cannot start", exc_info=True, extra={"fields": {"error": _first_line(error)}})
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _bounded(value: object) -> object:
    return value[:MAX_FIELD_CHARS] + "..." if isinstance(value, str) and len(value) > MAX_FIELD_CHARS else value


def _plain(value: object) -> str:
    """Returns a value as one word or a quoted text: a line break in a value must not start a new line."""
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text
