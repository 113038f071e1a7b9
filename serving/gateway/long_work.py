"""Work of a call that would hold up the event loop: one thread does it, and callers take turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value")


class LongWork:
    """Runs functions one at a time: several threads would each take as much of the interpreter as the event loop. Belongs to one event
    loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aisle-long")
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = (
            OrderedDict()
        )  # by caller, whose turn is next first
        self._busy = False

    async def __call__(self, caller: str, work: Callable[..., Value], *values: Any) -> Value:
        """Returns what `work` returns. It begins when every other caller that waits has had as many turns."""
        if self._busy:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(caller, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # its turn had just come
                    self._next()
                raise
        self._busy = True
        running = asyncio.get_running_loop().run_in_executor(self._thread, work, *values)
        try:
            return await asyncio.shield(running)
        finally:
            if running.done():
                self._next()
            else:  # the caller left; the thread goes on until this work is done
                running.add_done_callback(lambda _: self._next())

    def _next(self) -> None:
        self._busy = False
        while self._waiting:
            caller, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[caller] = turns
            if not turn.done():
                self._busy = True
                turn.set_result(None)
                return
