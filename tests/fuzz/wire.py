"""Calls that no gRPC client would make: HTTP/2 frames written by hand, some of them wrong.

Only as much of HTTP/2 and HPACK is here as it takes to say that there was an answer, and which. The server is told to keep no table of
headers, so that every name is sent in full.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NO_TABLE = struct.pack(">HI", 1, 0)  # SETTINGS_HEADER_TABLE_SIZE
NO_WINDOW = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE
STREAM = 1

Headers = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Attack:
    """What to send. `frames` are made of the headers and the message of an ordinary call. `answered` says that HTTP/2 owes an answer: a
    status, a reset or the end of the connection. Otherwise this side hangs up after a moment."""

    name: str
    frames: Callable[[Headers, bytes], bytes]
    settings: bytes = NO_TABLE
    preface: bytes = PREFACE
    answered: bool = True


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header_block(headers: Headers) -> bytes:
    """Returns the headers as literals without a table."""
    return b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers.items())


def request(headers: Headers, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), STREAM, header_block(headers))


def data(payload: bytes, *, end: bool = True) -> bytes:
    """Returns a payload in frames of the largest size that needs no leave."""
    cut = [payload[at : at + 16384] for at in range(0, len(payload), 16384)] or [b""]
    return b"".join(frame(DATA, END_STREAM if end and part is cut[-1] else 0, STREAM, part) for part in cut)


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    """Returns a message as gRPC frames it."""
    return bytes((compressed,)) + struct.pack(">I", len(message)) + message


def _literal(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    out, rest = bytearray((127,)), len(text) - 127
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes(out) + bytes((rest,)) + text


def _with(**changes: bytes | None) -> Callable[[Headers, bytes], bytes]:
    """Returns the frames of a call with other headers; None leaves one out."""
    named = {name.strip("_").replace("_", "-").encode(): value for name, value in changes.items()}
    named = {
        (b":" + name if name in (b"method", b"path", b"scheme", b"authority") else name): value
        for name, value in named.items()
    }

    def frames(headers: Headers, message: bytes) -> bytes:
        changed = {name: value for name, value in {**headers, **named}.items() if value is not None}
        ordered = dict(sorted(changed.items(), key=lambda item: not item[0].startswith(b":")))
        return request(ordered) + data(prefixed(message))

    return frames


ATTACKS = (
    Attack("as usual", _with()),
    Attack("truncated message", lambda h, m: request(h) + data(prefixed(m + b"xx")[:-1])),
    Attack("truncated prefix", lambda h, _: request(h) + data(b"\x00\x00\x00")),
    Attack("no message", lambda h, _: request(h, end=True)),
    Attack("two messages", lambda h, m: request(h) + data(prefixed(m) * 2)),
    Attack("compressed, but not said so", lambda h, m: request(h) + data(prefixed(m, 1))),
    Attack("compressed with garbage", lambda h, m: request({**h, b"grpc-encoding": b"gzip"}) + data(prefixed(m, 1))),
    Attack("unknown compression", lambda h, m: request({**h, b"grpc-encoding": b"lzma"}) + data(prefixed(m, 1))),
    Attack("odd flags of a message", lambda h, m: request(h) + data(prefixed(m, 255))),
    Attack("a message of 4 GiB", lambda h, m: request(h) + data(b"\x00\xff\xff\xff\xff" + m)),
    Attack("a message of 1 TiB that never comes", lambda h, _: request(h) + data(b"\x00\x7f\xff\xff\xff", end=False), answered=False),
    Attack("request id of UTF-8", _with(x_request_id="käse 😀".encode())),
    Attack("request id of control characters", _with(x_request_id=b"a\x01\x02b")),
    Attack("request id of any bytes", _with(x_request_id=bytes(range(128, 256)))),
    Attack("request id of 5 kB", _with(x_request_id=b"x" * 5000)),
    Attack("key of any bytes", _with(authorization=b"Bearer \xff\xfe\xfd")),
    Attack("details of any bytes", _with(grpc_status_details_bin=b"\xff%%%")),
    Attack("headers of 12 kB", _with(x_odd=b"x" * 12_000)),
    Attack("headers of 16 kB", _with(**{f"x_odd_{n}": b"x" * 4000 for n in range(4)})),
    Attack("timeout of no unit", _with(grpc_timeout=b"100")),
    Attack("timeout of 100 million hours", _with(grpc_timeout=b"99999999H")),
    Attack("timeout below 0", _with(grpc_timeout=b"-5S")),
    Attack("timeout of 0", _with(grpc_timeout=b"0n")),
    Attack("timeout of too many digits", _with(grpc_timeout=b"9999999999999999999999S")),
    Attack("GET", _with(_method=b"GET")),
    Attack("no method", _with(_method=None)),
    Attack("no path", _with(_path=None)),
    Attack("authority of any bytes", _with(_authority=b"\xff\xfe\x01")),
    Attack("path of any bytes", _with(_path=b"/\xff\xfe/\x01")),
    Attack("path without a slash", _with(_path=b"aisle")),
    Attack("no te", _with(te=None)),
    Attack("wrong content type", _with(content_type=b"application/json")),
    Attack("no content type", _with(content_type=None)),
    Attack("header in upper case", _with(X_Odd=b"1")),
    Attack("header block of garbage", lambda *_: frame(HEADERS, END_HEADERS, STREAM, b"\xff\xff\xff\xff\xff\x7f")),
    Attack("header block cut short", lambda h, _: frame(HEADERS, END_HEADERS, STREAM, header_block(h)[:-3])),
    Attack("frame of unknown kind", lambda h, m: request(h) + frame(0x42, 0xFF, STREAM, b"?") + data(prefixed(m))),
    Attack("data of no stream", lambda _, m: frame(DATA, END_STREAM, 0, prefixed(m)), answered=False),
    Attack("data of a stream that was not opened", lambda _, m: frame(DATA, END_STREAM, 7, prefixed(m)), answered=False),
    Attack("stream of an even number", lambda h, _: frame(HEADERS, END_HEADERS, 2, header_block(h)), answered=False),
    Attack("headers twice", lambda h, m: request(h) + request(h) + data(prefixed(m)), answered=False),
    Attack("frame too long", lambda h, _: request(h) + b"\x7f\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 1000, answered=False),
    Attack("ping of 7 bytes", lambda *_: frame(PING, 0, 0, b"1234567")),
    Attack("window of 0", lambda h, _: request(h) + frame(WINDOW_UPDATE, 0, STREAM, bytes(4)) + data(b""), answered=False),
    Attack("window beyond 2 GiB", lambda h, m: request(h) + 2 * frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") + data(prefixed(m))),
    Attack("reset at once", lambda h, m: request(h) + data(prefixed(m)) + frame(RST_STREAM, 0, STREAM, bytes(4)), answered=False),
    Attack("gone at once", lambda h, m: request(h) + data(prefixed(m)), answered=False),
    Attack("gone in the middle of a message", lambda h, m: request(h) + data(prefixed(m + b"more")[:-4], end=False), answered=False),
    Attack("no room for the answer", lambda h, m: request(h) + data(prefixed(m)), settings=NO_TABLE + NO_WINDOW, answered=False),
    Attack("100 calls at once", lambda h, m: b"".join(
        frame(HEADERS, END_HEADERS, n, header_block(h)) + frame(DATA, END_STREAM, n, prefixed(m)[:16384]) for n in range(1, 201, 2)
    )),
    Attack("half a preface", lambda *_: b"", preface=PREFACE[:10], answered=False),
    Attack("TLS", lambda *_: b"", preface=bytes.fromhex("16030100b7010000b30303") + bytes(180)),
    Attack("HTTP/1.1", lambda *_: b"", preface=b"GET / HTTP/1.1\r\nHost: aisle\r\n\r\n"),
    Attack("noise", lambda *_: b"", preface=bytes((n * 37 + 11) % 256 for n in range(500))),
)  # fmt: skip
QUIET_S = 0.05  # that this side waits where nothing is owed


async def attack(host: str, port: int, plan: Attack, headers: Headers, message: bytes, wait_s: float) -> str:
    """Returns the name of the answer: the gRPC status, "RESET", "CLOSED" or, where nothing is owed, "HUNG UP". Raises TimeoutError."""
    async with asyncio.timeout(wait_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(plan.preface + (frame(SETTINGS, 0, 0, plan.settings) if plan.preface == PREFACE else b""))
            writer.write(plan.frames(headers, message))
            try:
                if plan.answered:
                    await writer.drain()
                    return await _answer(reader)
                await asyncio.sleep(QUIET_S)
            except (ConnectionError, asyncio.IncompleteReadError):
                return "CLOSED"
            return "HUNG UP"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> str:
    """Reads frames to the end of the first stream that ends."""
    status = ""
    while True:
        head = await reader.readexactly(9)
        kind, flags = head[3], head[4]
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind == HEADERS:
            status = _grpc_status(payload) or status
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            return status or "RESET"
        if kind == RST_STREAM:
            return status or "RESET"
        if kind == GOAWAY and int.from_bytes(payload[4:8], "big"):
            return status or "CLOSED"


def _grpc_status(block: bytes) -> str:
    at = block.find(b"grpc-status")
    if at < 0:
        return ""
    size = block[at + 11]
    return block[at + 12 : at + 12 + size].decode()
