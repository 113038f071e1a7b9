"""What a run loads the service with: stages, the mix of calls, the traffic's habits, faults. Built-in profiles, or a file in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.errors import LoadError

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
FaultName = Literal["kill-gateway", "kill-stage", "update", "bad-update"]
MAX_SECONDS = 4 * 3600  # of a scenario: every second keeps a histogram


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSpec(_Table):
    """Seconds of load at `rate`, in parts of the highest rate that keeps the target; `to` is the rate at the end, if it changes."""

    name: str
    seconds: Annotated[float, Field(ge=1, le=MAX_SECONDS)]
    rate: Annotated[float, Field(gt=0, le=20)]
    to: Annotated[float, Field(gt=0, le=20)] | None = None


class Mix(_Table):
    """How often each kind of call comes, as weights."""

    search: Weight = 1.0
    rank: Weight = 0.0
    classify: Weight = 0.0
    events: Weight = 0.0
    upserts: Weight = 0.0

    @model_validator(mode="after")
    def _has_calls(self) -> Mix:
        if not sum(self.weights().values()):
            raise ValueError("all weights are 0")
        return self

    def weights(self) -> dict[str, float]:
        return dict(self)


class Traffic(_Table):
    """Habits of those who search: popularity falls as rank ** -zipf, and shares of searches have a shopper with a history, a filter,
    facets, or ask for the second page."""

    zipf: Annotated[float, Field(ge=0, le=3)] = 1.0
    known_shoppers: Share = 0.0
    filters: Share = 0.0
    facets: Share = 0.0
    pages: Share = 0.0


class FaultSpec(_Table):
    """What happens to the service, and when, in seconds from the start of the first stage."""

    kind: FaultName
    at_s: Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class Scenario(_Table):
    """Stages that follow each other, with one mix and one kind of traffic."""

    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1, max_length=100)]
    mix: Mix = Mix()
    traffic: Traffic = Traffic()
    faults: tuple[FaultSpec, ...] = ()
    apart: bool = False  # each stage begins when the last call of the one before has ended: levels, not one story

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        if self.seconds > MAX_SECONDS:
            raise ValueError(f"the stages take {self.seconds:.0f} s; the limit is {MAX_SECONDS}")
        late = [fault for fault in self.faults if fault.at_s >= self.seconds]
        if late:
            raise ValueError(
                f"the fault {late[0].kind} at {late[0].at_s:g} s comes after the last stage ({self.seconds:g} s)"
            )
        if self.faults and self.apart:
            raise ValueError("faults need stages that follow each other: leave out apart")
        return self


MIXED = Mix(search=70, rank=5, classify=5, events=15, upserts=5)
HABITS = Traffic(known_shoppers=0.3, filters=0.2, facets=0.2, pages=0.1)
# Profile: the parts (name, share of the seconds, rate, rate at the end) and the seconds by default.
_PROFILES: dict[str, tuple[float, tuple[tuple[str, float, float, float | None], ...]]] = {
    "sweep": (40, tuple((f"{rate:.0%}", 0.125, rate, None) for rate in (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3))),
    "steady": (30, (("steady", 1.0, 0.7, None),)),
    "overload": (50, (
        ("before", 0.2, 0.5, None), ("2x", 0.2, 2.0, None), ("after 2x", 0.2, 0.5, None),
        ("4x", 0.2, 4.0, None), ("after 4x", 0.2, 0.5, None),
    )),
    "spike": (40, (("before", 0.3, 0.5, None), ("spike", 0.1, 2.0, None), ("after", 0.6, 0.5, None))),
    "ramp": (60, (("ramp", 1.0, 0.1, 1.5),)),
    "soak": (600, (("soak", 1.0, 0.7, None),)),
    "mix": (40, (("mix", 1.0, 0.6, None),)),
}  # fmt: skip
PROFILES = tuple(_PROFILES)
FAULT_RATE, FAULT_AT = 0.6, 0.2  # of the highest rate, and of the seconds of a stage: with --fault


def profile(name: str, seconds: float | None, faults: tuple[str, ...] = ()) -> Scenario:
    """Returns a built-in profile. With `faults` it is `steady`, at a rate that leaves room, and they come one after the other. Raises
    LoadError for an unknown name, or for seconds that are too few."""
    if name not in _PROFILES:
        raise LoadError(f"--profile {name}: there is no such profile; there are {', '.join(PROFILES)}")
    usual, parts = _PROFILES[name]
    total = usual if seconds is None else seconds
    values: dict[str, object] = {"apart": name == "sweep"}
    if name == "mix":
        values |= {"mix": MIXED, "traffic": HABITS}
    if faults:
        if name not in ("steady", "mix", "soak"):
            raise LoadError(f"--fault goes with --profile steady, mix or soak, not {name}")
        total = 40.0 * len(faults) if seconds is None else seconds
        parts = tuple((part, share, FAULT_RATE, None) for part, share, _, _ in parts)
        each = total / len(faults)
        values["faults"] = [{"kind": kind, "at_s": each * (n + FAULT_AT)} for n, kind in enumerate(faults)]
    values["stages"] = [
        {"name": part, "seconds": share * total, "rate": rate, "to": to} for part, share, rate, to in parts
    ]
    return _checked(values, f"--profile {name}")


def read_scenario(path: Path) -> Scenario:
    """Reads a scenario in TOML. Raises LoadError that names the field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LoadError(f"--scenario {path}: {error}") from None
    return _checked(values, f"--scenario {path}")


def _checked(values: dict[str, object], whose: str) -> Scenario:
    try:
        return Scenario.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the scenario"
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            fields = _fields_at(first["loc"][:-1])
            what = f"there is no such name; there are {', '.join(fields)}"
        raise LoadError(f"{whose}: {where}: {what}") from None


def _fields_at(place: tuple[int | str, ...]) -> tuple[str, ...]:
    tables: dict[str, type[_Table]] = {"mix": Mix, "traffic": Traffic, "stages": StageSpec, "faults": FaultSpec}
    return tuple((tables[str(place[0])] if place else Scenario).model_fields)
