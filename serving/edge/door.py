"""The edge: it takes the calls of one port, refuses what must be refused, and hands the others to the gateways of this machine.

A call that arrives is looked at before its message is read: its method, its key, its caller's share. Then the message is read, by its
deadline, and goes with it to the ready gateway that has the fewest calls. A gateway that dies leaves its calls to another one. Every call
of the contract may be sent twice; only a stream cannot, as its messages are not kept.

Two threads meet here: the one of gRPC's completion queue brings calls, the one of `serving.edge.__main__` what gateways send. A lock makes
them take turns; nothing here waits for anything else.
"""

from __future__ import annotations

import heapq
import itertools
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import grpc

from serving.config import AisleConfig
from serving.edge.admission import Admission
from serving.edge.call_log import CallLog
from serving.edge.call_metrics import CallMetrics
from serving.edge.frames import Kind
from serving.edge.health import LOCAL_METHODS, Health, Reflection
from serving.edge.http2 import ServerCall
from serving.edge.keys import ApiKey, KeyRing
from serving.edge.links import Link, Method, OpenCall
from serving.edge.quotas import Quotas
from serving.edge.trailers import REQUEST_ID, error_status, read_request_id
from serving.errors import (
    AisleError,
    DeadlineExceeded,
    InvalidRequest,
    NotImplementedHere,
    Overloaded,
    Unavailable,
    Violation,
)
from serving.traces.trace import read_traceparent

# Messages that are on their way at a time: what callers that nobody has heard out can make this process keep.
MAX_READS = 64
MAX_CALLER_READS = 16
LATE_S = 1.0  # after its deadline a call is ended here: its gateway does not answer
MAX_TRIES = 2  # gateways that a call may be handed to
# Between NOT_SERVING and GOAWAY: in this time a client that watches health turns to another server.
NOTICE_S = 0.5
_PORT = re.compile(r":\d+$")


class Door:
    """What the edge knows: its gateways, the calls in progress, who may call.

    `wake` is called when a link has something left to send. `methods` are those of the contract, in the order of their numbers.
    """

    def __init__(
        self, config: AisleConfig, services: list[str], methods: list[Method], wake: Callable[[], None]
    ) -> None:
        self.lock = threading.RLock()
        self.links: list[Link] = []
        self.stopping = False
        self._wake = wake
        self._max_deadline_s = config.server.max_deadline_ms / 1000
        self._keys = KeyRing(config.auth.keys_file) if config.auth.keys_file else None
        self._quotas = Quotas()
        self._log = CallLog(config.log)
        self._metrics = CallMetrics([method.path for method in methods])
        self._admission = Admission()
        self._health = Health(services)
        self._reflection = Reflection(services) if config.server.reflection else None
        self._methods = {method.path: method for method in methods}
        self._numbers = itertools.count(1)
        self._calls: dict[int, OpenCall] = {}
        self._by_deadline: list[tuple[float, int]] = []
        self._unread: deque[OpenCall] = deque()  # in order of arrival
        self._reads: Counter[str] = Counter()  # by caller

    # Called by the thread of the completion queue.

    def accept(self, call: ServerCall) -> None:
        """Takes a new call."""
        with self.lock:
            local = LOCAL_METHODS.get(call.method)
            if local and (local != "reflection" or self._reflection):
                self._accept_local(call, local)
                return
            now = time.monotonic()
            request_id = read_request_id(call.metadata)
            method = self._methods.get(call.method)
            try:
                if method is None:
                    service, _, name = call.method[:200].strip("/").rpartition("/")
                    raise NotImplementedHere(f"there is no method '{name}' in the service '{service}'")
                caller, key = self._identify(call, method)
                deadline = min(call.deadline, now + self._max_deadline_s)
                self._metrics.arrived(method.path, deadline - now)
                self._admit(caller, key, method, deadline - now)
            except AisleError as error:
                name = method.name if method else "unknown"
                self._log.done(name, error.code, request_id, now, error, read_traceparent(call.metadata))
                self._metrics.refused(call.method, error, error.code, time.monotonic() - now)
                status = error_status(error, request_id)
                call.refuse(status.code, status.message, status.trailers)
                return
            opened = OpenCall(next(self._numbers), call, method, caller, key, request_id, now, deadline)
            opened.traceparent = read_traceparent(call.metadata)
            self._calls[opened.number] = opened
            self._admission.begin(caller, method.stages, opened.cost)
            self._metrics.began(method.path)
            heapq.heappush(self._by_deadline, (deadline, opened.number))
            call.watch(lambda _: self._closed(opened))
            if method.is_stream:
                self._hand_over(opened)
            elif self._may_read(caller):
                self._read(opened)
            else:
                self._unread.append(opened)

    def _accept_local(self, call: ServerCall, method: str) -> None:
        if method == "reflection" and self._reflection:
            self._reflection.accept(call)
        else:
            self._health.accept(call, method)

    def _identify(self, call: ServerCall, method: Method) -> tuple[str, ApiKey | None]:
        """Returns the caller's name, and their key where calls need one. Raises Unauthenticated, NotPermitted."""
        if self._keys is None:
            return _PORT.sub("", call.peer()), None
        sent = next((str(value) for name, value in call.metadata if name == "authorization"), "")
        key = self._keys.admit(sent.removeprefix("Bearer ").strip(), method.scope)
        return key.name, key

    def _admit(self, caller: str, key: ApiKey | None, method: Method, remaining_s: float) -> None:
        if self._choose_link() is None:
            raise Unavailable("no gateway is ready; send the call again")
        if remaining_s <= 0:
            raise DeadlineExceeded("the deadline had passed before any work was done")
        wait_s = self._admission.wait_s(caller, method.stages, remaining_s)
        if wait_s is not None:
            raise Overloaded(wait_s)
        if key and key.limits:
            self._quotas.take_call(key)

    def _may_read(self, caller: str) -> bool:
        return self._reads.total() < MAX_READS and self._reads[caller] < MAX_CALLER_READS

    def _read(self, opened: OpenCall) -> None:
        opened.is_reading = True
        self._reads[opened.caller] += 1
        opened.call.read(lambda message: self._has_read(opened, message))

    def _has_read(self, opened: OpenCall, message: bytes | None) -> None:
        with self.lock:
            self._stop_reading(opened)
            if opened.number not in self._calls:
                return
            if message is None:
                self._fail(opened, InvalidRequest(Violation("request", "is missing: the call holds no message")))
                return
            opened.message = message
            self._hand_over(opened)

    def _stop_reading(self, opened: OpenCall) -> None:
        if not opened.is_reading:
            return
        opened.is_reading = False
        self._reads[opened.caller] -= 1
        if not self._reads[opened.caller]:
            del self._reads[opened.caller]
        waiting = next((waiting for waiting in self._unread if self._may_read(waiting.caller)), None)
        if waiting:
            self._unread.remove(waiting)
            self._read(waiting)

    def _closed(self, opened: OpenCall) -> None:
        """Takes the end of a call. One that is still in progress was ended by its caller or with its connection."""
        with self.lock:
            if opened.number not in self._calls:
                return
            if opened.link:
                self._send(opened.link, Kind.CANCEL, (opened.number,))  # it counts the call
            else:
                self._log_end(opened, "CANCELLED")
            self._finish(opened, "CANCELLED")

    # Called by the thread of the links.

    def greet(self, link: Link, ready: bool) -> None:
        with self.lock:
            self.links.append(link)
            link.greeted = True
            self._send(link, Kind.WELCOME)
            self.set_ready(link, ready)

    def set_ready(self, link: Link, ready: bool) -> None:
        with self.lock:
            link.ready = ready
            self._follow_links()

    def set_leaving(self, link: Link) -> bool:
        """Gives no more calls to a gateway. Returns False if there is no other: it takes calls until the server stops."""
        with self.lock:
            has_others = any(other.takes_calls for other in self.links if other is not link)
            link.leaving = has_others
            self._follow_links()
            self.say_if_gone(link)
            return has_others

    def take_frame(self, link: Link, kind: int, values: tuple[Any, ...], body: bytes) -> None:
        """Takes what a gateway says of its calls or of its load."""
        with self.lock:
            if kind == Kind.ANSWER:
                opened = self._calls.get(values[0])
                if opened and opened.link is link:
                    self._finish(opened, "OK")
                    opened.call.answer(body, ((REQUEST_ID, opened.request_id),))
                    self.say_if_gone(link)
            elif kind == Kind.FAIL:
                number, code, message, trailers = values
                opened = self._calls.get(number)
                if opened and opened.link is link:
                    if opened.key and _CODES[code] is grpc.StatusCode.PERMISSION_DENIED:
                        self._metrics.not_permitted(opened.key.name)
                    self._finish(opened, _CODES[code].name)
                    opened.call.fail(_CODES[code], message, trailers)
                    self.say_if_gone(link)
            elif kind == Kind.COST:
                opened = self._calls.get(values[0])
                if opened:
                    self._set_cost(opened, values[1])
            elif kind == Kind.READ:
                opened = self._calls.get(values[0])
                if opened:
                    opened.call.read(lambda message: self._pass_on(opened, message))
            elif kind == Kind.LOAD:
                link.speeds = {number: (speed, wait_s) for number, speed, wait_s in values}
                self._follow_links()

    def lost(self, link: Link) -> None:
        """Takes the death of a gateway: its calls go to another one."""
        with self.lock:
            if link in self.links:
                self.links.remove(link)
            self._follow_links()
            for opened in list(link.calls.values()):
                opened.link = None
                del link.calls[opened.number]
                if opened.method.is_stream or opened.tries >= MAX_TRIES or self._choose_link() is None:
                    self._fail(opened, Unavailable("the gateway of this call was lost; send the call again"))
                else:
                    self._hand_over(opened)

    def end_late_calls(self) -> float:
        """Ends the calls whose deadline has passed without an answer. Returns the seconds until it must be called again."""
        with self.lock:
            now = time.monotonic()
            while self._by_deadline and self._by_deadline[0][0] <= now:
                _, number = heapq.heappop(self._by_deadline)
                opened = self._calls.get(number)
                if opened is None:
                    continue
                if opened.link and now < opened.deadline + LATE_S:
                    heapq.heappush(self._by_deadline, (opened.deadline + LATE_S, number))
                    continue
                if opened.link:
                    self._send(opened.link, Kind.CANCEL, (number,))
                    what = "no answer came by the deadline"
                else:
                    took_s = now - opened.started
                    what = f"the message of the call did not arrive whole within its deadline, {took_s:.1f} s"
                self._fail(opened, DeadlineExceeded(what))
            return max(0.0, self._by_deadline[0][0] - now) if self._by_deadline else 60.0

    def stop(self) -> None:
        """Turns health; the calls go on."""
        with self.lock:
            self.stopping = True
            self._follow_links()

    def say_if_gone(self, link: Link) -> None:
        if link.leaving and not link.calls:
            self._send(link, Kind.GONE)

    # Called by both.

    def _hand_over(self, opened: OpenCall) -> None:
        link = self._choose_link()
        if link is None:
            self._fail(opened, Unavailable("no gateway is ready; send the call again"))
            return
        opened.link = link
        opened.tries += 1
        link.calls[opened.number] = opened
        link.last_call = opened.number
        if opened.method.name == "GetStats":
            self._send(
                link,
                Kind.COUNTS,
                tuple((method, str(code), count) for (method, code), count in self._log.ended.items()),
            )
        self._send(link, Kind.CALL, opened.values(), opened.message)

    def _pass_on(self, opened: OpenCall, message: bytes | None) -> None:
        """Hands a stream's next message to its gateway."""
        with self.lock:
            if opened.number in self._calls and opened.link:
                if message is None:
                    self._send(opened.link, Kind.END, (opened.number,))
                else:
                    self._send(opened.link, Kind.MESSAGE, (opened.number,), message)

    def _choose_link(self) -> Link | None:
        """Returns the ready gateway with the fewest calls, of equals the one that waits longest; None if there is none."""
        ready = (link for link in self.links if link.takes_calls)
        return min(ready, key=lambda link: (len(link.calls), link.last_call), default=None)

    def _set_cost(self, opened: OpenCall, cost: float) -> None:
        self._admission.change(opened.caller, opened.method.stages, cost - opened.cost)
        if opened.key and opened.key.limits:
            self._quotas.take_cost(opened.key, cost - opened.cost)
        opened.cost = cost

    def _fail(self, opened: OpenCall, error: AisleError) -> None:
        self._finish(opened, error.code)
        self._log_end(opened, error.code, error)
        status = error_status(error, opened.request_id)
        opened.call.fail(status.code, status.message, status.trailers)

    def _log_end(self, opened: OpenCall, code: str, error: AisleError | None = None) -> None:
        self._log.done(opened.method.name, code, opened.request_id, opened.started, error, opened.traceparent)

    def _finish(self, opened: OpenCall, code: str) -> None:
        now = time.monotonic()
        self._metrics.ended(opened.method.path, code, now - opened.started)
        del self._calls[opened.number]
        if opened.link:
            opened.link.calls.pop(opened.number, None)
        if opened in self._unread:
            self._unread.remove(opened)
        self._stop_reading(opened)
        self._admission.end(opened.caller, opened.method.stages, opened.cost, now)

    def _send(self, link: Link, kind: Kind, values: tuple[Any, ...] = (), body: bytes = b"") -> None:
        if not link.send(kind, values, body):
            self._wake()

    def _follow_links(self) -> None:
        """Health and the expected speeds follow the gateways that take calls."""
        ready = [link for link in self.links if link.takes_calls]
        self._health.set(bool(ready) and not self.stopping)
        self._metrics.set_ready(len(ready))
        for number in {number for link in ready for number in link.speeds}:
            told = [link.speeds[number] for link in ready if number in link.speeds]
            known = [speed for speed, _ in told if speed]
            # A gateway that does not know its speed yet is taken to be as fast as the others.
            speed = sum(known) / len(known) * len(told) if known else 0.0
            self._admission.set_speed(number, speed, max(wait_s for _, wait_s in told))


_CODES = {code.value[0]: code for code in grpc.StatusCode}
