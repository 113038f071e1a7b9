"""The frames between the edge and the gateways behind it, over a Unix socket that only this user can reach.

A frame is a length, a kind, its values as `marshal` writes them, and a message as the caller sent or gets it. Both sides run the same
code: a gateway of another version gets an edge of its own.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("!IIB")


class Kind(IntEnum):
    """What a frame says, with its values."""

    # From a gateway.
    HELLO = 1  # version, settings
    READY = 2  # whether its stages can compute
    LOAD = 3  # by stage: cost a second, longest wait in seconds
    ANSWER = 4  # call; the message
    FAIL = 5  # call, status code, message, trailers
    READ = 6  # call; a stream's next message is wanted
    LEAVE = 7  # it stops: no new calls
    COST = 8  # call; what it costs, once that is known
    # From the edge.
    WELCOME = 20
    CALL = 21  # call, method, caller, key, request id, started, deadline, traceparent; the message
    MESSAGE = 22  # call; a stream's message
    END = 23  # call; the stream has no more messages
    CANCEL = 24  # call
    COUNTS = 25  # the calls that the edge ended itself: method, code, how many
    GONE = 26  # the last call of a gateway that leaves has ended
    RETIRED = 27  # this edge is of another version or other settings: start another
    REFUSED = 28  # why the edge cannot listen


def frame(kind: Kind, values: tuple[Any, ...] = (), body: bytes = b"") -> bytes:
    meta = marshal.dumps(values)
    return b"".join((_HEAD.pack(len(meta), len(body), kind), meta, body))


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, tuple[Any, ...], bytes]]:
        """Yields kind, values and body of each frame that is complete."""
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        try:
            while end - at >= _HEAD.size:
                meta_length, body_length, kind = _HEAD.unpack_from(buffer, at)
                stop = at + _HEAD.size + meta_length + body_length
                if stop > end:
                    break
                start = at + _HEAD.size
                meta = marshal.loads(buffer[start : start + meta_length])  # noqa: S302 - both ends are ours
                body = bytes(buffer[start + meta_length : stop])
                at = stop
                yield kind, meta, body
        finally:
            del buffer[:at]
