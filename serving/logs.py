"""The log: one line per event, as text or JSON, collected from all processes by the one that was started.

Ray prefixes what its workers print, which breaks JSON. So the processes of one machine send their lines to `aisle serve` over a Unix
socket. A process without that socket writes to its own stderr, a file in Ray's log folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

LOGGER = "aisle"
MAX_LINE = 60_000  # bytes of one datagram
MAX_EXCEPTION_CHARS = (
    12_000  # the last of a traceback. JSON may write a character as four, and the line must fit a datagram
)

log = logging.getLogger(LOGGER)


class LineFormat(logging.Formatter):
    """Formats `log.info("event", extra={"fields": {...}})` as text or JSON."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
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
    """Prints on stderr the lines that other processes send to the Unix socket `path`."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        os.chmod(path, 0o600)
        self.path = path
        self._out = sys.stderr  # the stream of now: `sys.stderr` may be redirected later
        self._thread = threading.Thread(target=self._print, daemon=True, name="aisle-log")
        self._thread.start()

    def _print(self) -> None:
        while line := self._socket.recv(MAX_LINE):
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


def configure_logging(style: str, level: str, collector: str = "") -> None:
    """Sends the Aisle log of this process to the socket of a collector, or to stderr if there is none."""
    reachable = collector and Path(collector).exists()
    handler: logging.Handler = SocketHandler(collector) if reachable else logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormat(style))
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def _plain(value: object) -> str:
    """Returns a value as one word or a quoted text: a line break in a value must not start a new line."""
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text
