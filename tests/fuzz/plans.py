"""What each call of a run does. A plan follows from the seed and the call's number alone, so a single call can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor

from tests.fuzz.messages import Messages, mutated
from tests.fuzz.values import Catalogue, Values
from tests.fuzz.wire import ATTACKS, Attack

Metadata = tuple[tuple[str, str | bytes], ...]

HASTY_S = (0.001, 0.001, 0.003, 0.01, 0.05)
MAX_STREAM_MESSAGES = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """One call. `kind` says what is odd about it; `method` is None if the path names none."""

    number: int
    kind: str
    path: str
    method: MethodDescriptor | None
    messages: tuple[bytes, ...]
    metadata: Metadata = ()
    timeout_s: float | None = None  # None: no deadline is sent
    cancel_after_s: float | None = None
    attack: Attack | None = None  # on the level of HTTP/2, in place of a call

    @property
    def name(self) -> str:
        return self.method.name if self.method else "(wire)" if self.attack else "(none)"


class Plans:
    """Draws the plans of one run. `patience_s` is the deadline of a call that is not in a hurry: longer than the service's own limit, so
    that a service that keeps its limit answers before."""

    def __init__(self, seed: int, methods: Sequence[MethodDescriptor], catalogue: Catalogue, patience_s: float) -> None:
        self._seed = seed
        self._methods = methods
        self._catalogue = catalogue
        self._patience_s = patience_s

    def draw(self, number: int) -> Plan:
        rng = random.Random(f"{self._seed}/{number}")
        messages = Messages(Values(self._catalogue, rng), rng)
        kind, odd = rng.choices(
            (
                ("valid", 0.0),
                ("nearly valid", 0.0),
                ("broken", 0.5),
                ("bytes", 0.2),
                ("wire", 0.0),
                ("wrong method", 0.0),
            ),
            (40, 32, 11, 11, 4, 2),
        )[0]
        method = rng.choice(self._methods)
        path = f"/{method.containing_service.full_name}/{method.name}"
        count = rng.randint(0, MAX_STREAM_MESSAGES) if method.client_streaming else 1
        drawn = [
            messages.nearly_valid(method.input_type)
            if kind == "nearly valid"
            else messages.draw(method.input_type, odd)
            for _ in range(count)
        ]
        sent = tuple(message.SerializeToString() for message in drawn)
        if kind == "bytes":
            sent = tuple(mutated(data, rng) for data in sent)
        if kind == "wire":
            attack = rng.choice(ATTACKS)
            return Plan(number, f"wire: {attack.name}", path, None, sent or (b"",), attack=attack)
        if kind == "wrong method":
            return Plan(number, kind, self._wrong_path(path, rng), None, sent or (b"",), timeout_s=self._patience_s)
        return self._in_circumstances(Plan(number, kind, path, method, sent), rng)

    def _in_circumstances(self, plan: Plan, rng: random.Random) -> Plan:
        """Returns the plan with a deadline, and now and then with less time, a cancellation or odd metadata."""
        which = rng.choices(("plain", "no deadline", "hasty", "cancelled", "odd metadata"), (74, 8, 6, 6, 6))[0]
        kind = plan.kind if which == "plain" else f"{plan.kind}, {which}"
        timeout_s: float | None = self._patience_s
        if which == "hasty":
            timeout_s = rng.choice(HASTY_S)
        elif which == "no deadline":
            timeout_s = None
        return Plan(
            plan.number,
            kind,
            plan.path,
            plan.method,
            plan.messages,
            self._odd_metadata(rng) if which == "odd metadata" else (),
            timeout_s,
            rng.choice((0.0, 0.001, 0.005, 0.02)) if which == "cancelled" else None,
        )

    @staticmethod
    def _odd_metadata(rng: random.Random) -> Metadata:
        """Returns metadata that a gRPC client sends: names in lower case, values of printable ASCII. Bytes only in "-bin"."""
        texts = ("", " ", "x" * 128, "x" * 129, "x" * 3000, "%00", "a,b", "Bearer ", "~!@#$%^&*()", "0" * 32)
        return tuple(
            rng.choice(
                (
                    ("x-request-id", rng.choice(texts)),
                    ("x-odd", rng.choice(texts)),
                    ("x-odd-bin", rng.randbytes(rng.choice((0, 1, 500)))),
                    ("user-agent", rng.choice(texts)),
                    ("accept-language", "tlh"),
                )
            )
            for _ in range(rng.randint(1, 4))
        )

    @staticmethod
    def _wrong_path(path: str, rng: random.Random) -> str:
        service, _, name = path[1:].partition("/")
        return rng.choice(
            (f"/{service}/", f"/{service}/{name}s", f"/{service}/{name.lower()}", f"/aisle.v2.Search/{name}", f"/{service}//{name}",
             f"/{name}", "/", f"/{'x' * 4000}/{name}", f"/{service}/%2e%2e/{name}", "/grpc.health.v1.Health/Chekc")
        )  # fmt: skip
