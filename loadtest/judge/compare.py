"""Better, same or worse than a report from before."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import LoadError
from loadtest.judge.search_rate import Found

KIND, FORMAT = "aisle load", 1
MUST_EQUAL = (
    "p99_ms",
    "max_errors",
    "deadline_ms",
    "traffic",
    "mix",
    "retries",
)  # settings, or rates mean different things
MACHINE = ("processor", "cores")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ratio of the rate to the one before, with its 95 % interval. `finding` is better, same or worse."""

    finding: str
    ratio: float
    low: float
    high: float
    before_rate: float
    before_bundle: str


def read_report(path: Path) -> dict[str, Any]:
    """Returns a report of `aisle load`. Raises LoadError for what is none, or of another format, or void."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LoadError(f"--before {path}: there is no such file; give the report.json of an earlier run") from None
    except (OSError, ValueError) as error:
        raise LoadError(f"--before {path}: {error}; give the report.json of an earlier run") from None
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind != KIND:
        raise LoadError(f"--before {path} is no report of 'aisle load': its kind is {kind!r}, not {KIND!r}")
    if values.get("format") != FORMAT:
        raise LoadError(
            f"--before {path} has format {values.get('format')!r}; this version reads {FORMAT}: measure the old release again"
        )
    verdict = values.get("verdict") or {}
    if not verdict.get("rate"):
        raise LoadError(f"--before {path} holds no rate: {verdict.get('void') or 'it was given one with --rate'}")
    return values


def check_comparable(before: dict[str, Any], settings: dict[str, Any], machine: dict[str, Any]) -> None:
    """Raises LoadError that names the first setting, or the machine, that differs."""
    for name in MUST_EQUAL:
        then = before["settings"].get(name)
        if then != settings[name]:
            raise LoadError(
                f"--before was measured with {name} {then!r}, this run has {settings[name]!r}: such rates do not compare"
            )
    for name in MACHINE:
        there = before["environment"]["machine"].get(name)
        if there != machine[name]:
            raise LoadError(
                f"--before was measured on a machine with {name} {there!r}, this one has {machine[name]!r}: measure both on one"
            )


def compare(before: dict[str, Any], found: Found, margin: float) -> Comparison:
    """Compares two rates. Better or worse is what the interval of the ratio excludes 1 for, and what differs by more than `margin`: within
    a run windows agree more than two runs do."""
    verdict = before["verdict"]
    ratio = found.rate / verdict["rate"]
    half = math.hypot(_half(found.low, found.high), _half(verdict["low"], verdict["high"])) if found.rate else 0.0
    low, high = ratio * math.exp(-half), ratio * math.exp(half)
    finding = "same"
    if high < 1 and ratio < 1 - margin:
        finding = "worse"
    elif low > 1 and ratio > 1 + margin:
        finding = "better"
    return Comparison(finding, ratio, low, high, verdict["rate"], before["environment"].get("bundle_version", ""))


def _half(low: float, high: float) -> float:
    return math.log(high / low) / 2
