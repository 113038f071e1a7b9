"""The report of a load test: one page for people, the same figures for programs, and raw histograms."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as ConsoleTable

from loadtest.generator.histogram import Histogram
from loadtest.judge import plots
from loadtest.judge.compare import FORMAT, KIND
from loadtest.judge.measures import (
    StageRow,
    as_json,
    failed_by_second,
    kind_rows,
    mean_batches,
    quality_shares,
    recovery_s,
    second_rows,
    stage_row,
    time_parts,
)
from loadtest.judge.proof import LEAST_CEILING, MAX_CPU, MAX_SLIP_MS
from loadtest.judge.run import MAX_OTHERS, Outcome
from loadtest.judge.search_rate import STEPS
from loadtest.judge.slopes import Slope, slope
from models.evaluation.bootstrap import Interval
from models.evaluation.page import Cell, Section, Table, render_page, write_report_files
from models.evaluation.run_facts import RunFacts

VERSIONS = ("aisle", "grpcio", "hdrhistogram", "numpy", "ray", "faiss-cpu", "openvino")
LEAST_SLOPE_S = 120.0  # of a stage: in less a slope is a guess
MIB = 2**20
LEAST_MS = 0.005  # of a part of the time that is shown
QUIET_CORES = 0.15  # that others may use without a word of it
METHOD = f"""Calls are sent at Poisson times that are planned before, whether or not earlier ones were answered (an open loop), and latency
counts from the planned time: what a call waits to be sent is in it. The service p99 counts from the sending. The highest rate is found by
windows that go a step of {STEPS[-1] - 1:.0%} up when the target was kept and down when not: it is the rate at which a window keeps the
target as often as not, estimated from all windows, with a 95 % interval. A rate is compared with an earlier one by the interval of their
ratio, and only a difference beyond the margin counts. The run is void if the generator is at fault: if its slip (p99.9 of late sending)
is above {MAX_SLIP_MS:g} ms against an empty server, if a worker needs more than {MAX_CPU:.0%} of a core or cannot send {LEAST_CEILING:g}
times the rate, or if calls miss the target by their planned time and keep it by the time of sending. It is void, too, if other processes
use more than {MAX_OTHERS:.0%} of the cores of the machine that the service runs on."""


def write_report(outcome: Outcome) -> Path:
    """Writes report.html, report.json and the histograms into the folder, and returns the path of the page."""
    folder = outcome.settings.out
    folder.mkdir(parents=True, exist_ok=True)
    facts = RunFacts(
        title="Load test",
        simulated=False,
        command=outcome.settings.command,
        data=_data(outcome),
        recipe=outcome.compared_settings() | {"scenario": outcome.scenario.model_dump()},
        seeds={"calls": outcome.settings.seed},
        versions={"python": platform.python_version(), **_installed()},
        machine=_machine(outcome),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=[*_notes(outcome), *(f"Left out: {name}" for name in outcome.prepared.left_out)],
    )
    page = render_page(facts, finding(outcome), _sections(outcome), METHOD)
    _write_histograms(outcome, folder)
    return write_report_files(folder, values(outcome), page)


def _notes(outcome: Outcome) -> list[str]:
    others = outcome.watch.other_cores
    if others < QUIET_CORES or math.isnan(others):
        return []
    return [f"The machine was not quiet: other processes used {others:.1f} cores while it was measured."]


def values(outcome: Outcome) -> dict[str, Any]:
    """Returns the report for programs."""
    found, rows = outcome.found, _rows(outcome)
    verdict: dict[str, Any] = {"exit_code": outcome.exit_code, "finding": finding(outcome), "void": outcome.void}
    if found:
        verdict |= {"rate": found.rate, "low": found.low, "high": found.high, "turns": found.turns}
    return {
        "kind": KIND,
        "format": FORMAT,
        "verdict": verdict,
        "comparison": asdict(outcome.comparison) if outcome.comparison else None,
        "settings": outcome.compared_settings(),
        "scenario": outcome.scenario.model_dump(),
        "proof": asdict(outcome.proof),
        "windows": [asdict(window) for window in found.windows] if found else [],
        "stages": as_json(rows),
        "time": [time_parts(stage) for stage in outcome.tally.stages],
        "batches": [mean_batches(stage) for stage in outcome.tally.stages],
        "calls": [kind_rows(stage) for stage in outcome.tally.stages],
        "errors": _errors(outcome),
        "seconds": second_rows(outcome.tally),
        "recovery_s": dict(_recoveries(outcome)),
        "faults": _faults(outcome),
        "processes": [
            {name: {"cores": cores, "rss": rss} for name, (cores, rss) in outcome.watch.by_name(*span).items()}
            for span in outcome.spans
        ],
        "slopes": {name: asdict(one) for name, one in _slopes(outcome).items()},
        "quality": quality_shares(outcome.tally) | {"the same when idle, asked twice": outcome.prepared.idle_again},
        "environment": outcome.environment() | {"versions": _installed()},
    }


def finding(outcome: Outcome) -> str:
    """Returns the verdict in sentences."""
    settings, found = outcome.settings, outcome.found
    target = f"p99 <= {settings.target.p99_ms:g} ms and errors <= {settings.target.max_errors:.2%}"
    if outcome.void:
        measured = f" Measured were {outcome.rate:.0f} calls/s." if found and math.isfinite(found.rate) else ""
        return f"Void: {outcome.void}.{measured}"
    if found is None:
        return f"The rate was given: {outcome.rate:.0f} calls/s. No search, so no verdict."
    if not found.rate:
        return f"No rate keeps {target}."
    parts = [f"{found.rate:.0f} calls/s ({found.low:.0f} to {found.high:.0f}) keep {target}."]
    if settings.at_least:
        parts.append(f"The goal of {settings.at_least:g} calls/s is {'reached' if outcome.reaches_goal else 'MISSED'}.")
    if one := outcome.comparison:
        parts.append(
            f"Compared with {one.before_rate:.0f} calls/s before: {one.finding.upper()}, {one.ratio:.2f} times as many "
            f"({one.low:.2f} to {one.high:.2f}; margin {settings.margin:.0%})."
        )
    return " ".join(parts)


def print_report(outcome: Outcome, console: Console) -> None:
    """Prints the verdict and a line for each stage."""
    table = ConsoleTable(box=None, pad_edge=False)
    for heading in ("stage", "offered/s", "goodput/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "refused", "failed"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for row in _rows(outcome):
        table.add_row(
            row.name, f"{row.offered:.0f}", f"{row.goodput:.0f}", f"{row.p50:.1f}", f"{row.p95:.1f}", f"{row.p99:.1f}",
            f"{row.p999:.1f}", f"{row.refused:.1%}", f"{row.failed:.2%}",
        )  # fmt: skip
    console.print(table)
    proof = outcome.proof
    console.print(
        f"generator: slip p99.9 {proof.slip_p999:.2f} ms, {proof.cpu:.0%} of a core at {proof.rate:.0f} calls/s against an empty server; "
        f"{proof.ceiling:.0f} calls/s at most",
        highlight=False,
    )
    for error, count in _errors(outcome)[:3]:
        console.print(f"  {count:,} x {error}", highlight=False, markup=False)
    for name in outcome.prepared.left_out:
        console.print(f"left out: {escape(name)}", highlight=False)
    for note in _notes(outcome):
        console.print(f"[yellow]{note}[/yellow]", highlight=False)
    console.print(finding(outcome), highlight=False, markup=False, style="bold")


def _sections(outcome: Outcome) -> list[Section]:
    settings, found = outcome.settings, outcome.found
    sections = []
    if found and found.windows:
        keeps = [window.keeps(settings.target) for window in found.windows]
        sections.append(
            Section(
                "The highest rate",
                f"{len(found.windows)} windows; the search turned {len(found.turns)} times with the smallest step.",
                [plots.walk_plot(found.windows, keeps, found.rate, found.low, found.high)],
            )
        )
    sections += [_proof_section(outcome), _stages_section(outcome), _time_section(outcome)]
    more = (_calls_section, _recovery_section, _fault_section, _process_section, _slope_section, _quality_section)
    return [*sections, *(section for make in more if (section := make(outcome)))]


def _proof_section(outcome: Outcome) -> Section:
    proof = outcome.proof
    raised = "with raised priority" if proof.raised else "without raised priority (not permitted)"
    table = Table(
        "Against an empty server on this machine",
        "",
        ["measured", "limit"],
        [
            (f"slip p50, {proof.rate:.0f} calls/s", [_ms(proof.slip_p50), ""]),
            ("slip p99.9", [_ms(proof.slip_p999), f"<= {MAX_SLIP_MS:g} ms"]),
            ("latency p50", [_ms(proof.p50), ""]),
            ("latency p99", [_ms(proof.p99), ""]),
            ("busiest worker, share of a core", [f"{proof.cpu:.0%}", f"<= {MAX_CPU:.0%}"]),
            (
                "most calls/s",
                [
                    f"{proof.ceiling:,.0f} ({proof.ceiling / proof.rate:.1f} times the rate)",
                    f">= {LEAST_CEILING:g} times",
                ],
            ),
            ("processor time of a call", [f"{proof.call_us:.0f} us", ""]),
        ],
    )
    return Section("Proof of the generator", f"{proof.workers} worker processes, {raised}.", tables=[table])


def _stages_section(outcome: Outcome) -> Section:
    rows, target = _rows(outcome), outcome.settings.target
    columns = [
        "offered/s",
        "goodput/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "p99.9 ms",
        "service p99 ms",
        "refused",
        "refusal p50 ms",
        "failed",
    ]
    formats = dict.fromkeys(columns, ".1f") | {"refused": ".2%", "failed": ".3%"}
    formats |= {"offered/s": ".0f", "goodput/s": ".0f"}
    cells = [
        (
            row.name,
            [
                *(row.offered, row.goodput, row.p50, row.p95, row.p99, row.p999, row.service_p99),
                *(row.refused, row.refused_ms, row.failed),
            ],
        )
        for row in rows
    ]
    if outcome.scenario.apart and len(rows) > 1:
        rates = [row.offered for row in rows]
        by_name = {
            "p50": [r.p50 for r in rows],
            "p95": [r.p95 for r in rows],
            "p99": [r.p99 for r in rows],
            "p99.9": [r.p999 for r in rows],
        }
        shown = [
            plots.latency_plot(rates, by_name, target.p99_ms),
            plots.goodput_plot(rates, [row.goodput for row in rows], [row.refused * row.sent for row in rows]),
        ]
    else:
        marks = {fault.kind: fault.at_s for fault in outcome.faults}
        start = 0.0
        for stage in outcome.stages:
            marks.setdefault(stage.name, start)
            start += stage.seconds
        shown = [plots.story_plot(second_rows(outcome.tally), target.p99_ms, marks)]
    tables = [Table("Latency of answers, from the planned time", "stage", columns, cells, formats=formats)]
    codes = sorted({code for row in rows for code in row.codes} - {"OK"})
    if codes:
        counts = [(row.name, [row.codes.get(code, 0) for code in codes]) for row in rows]
        tables.append(Table("Calls without an answer, by code", "stage", codes, counts))
        errors = [(error, [count]) for error, count in _errors(outcome)[:10]]
        tables.append(Table("Errors", "error", ["calls"], errors))
    return Section("Load", "", shown, tables)


def _time_section(outcome: Outcome) -> Section:
    parts = [time_parts(stage) for stage in outcome.tally.stages]
    batches = [mean_batches(stage) for stage in outcome.tally.stages]
    names = list(
        dict.fromkeys(name for one in parts for name, ms in one.items() if name != "latency" and abs(ms) > LEAST_MS)
    )
    columns = [row.name for row in _rows(outcome)]
    rows: list[tuple[str, list[float]]] = [
        (name, [one.get(name, 0.0) if one else math.nan for one in parts]) for name in [*names, "latency"]
    ]
    phases = list(dict.fromkeys(name for one in batches for name in one))
    by_phase = [(name, [one.get(name, math.nan) for one in batches]) for name in phases]
    return Section(
        "Where the time goes",
        "Means over answered searches, as client and service measured them; the rows add up to the latency. What ran beside a longer "
        "phase is taken off again.",
        tables=[
            Table("Mean milliseconds", "part", columns, rows, formats=dict.fromkeys(columns, ".2f")),
            Table("Mean batch of a call", "phase", columns, by_phase, formats=dict.fromkeys(columns, ".1f")),
        ],
    )


def _calls_section(outcome: Outcome) -> Section | None:
    by_stage = [kind_rows(stage) for stage in outcome.tally.stages]
    if all(len(kinds) < 2 for kinds in by_stage):
        return None
    columns = ["calls", "answered", "p50 ms", "p95 ms", "p99 ms"]
    rows = [
        (f"{stage.name}: {kind}", [int(one["calls"]), one["answered"], one["p50"], one["p95"], one["p99"]])
        for stage, kinds in zip(outcome.stages, by_stage, strict=True)
        for kind, one in kinds.items()
    ]
    formats = dict.fromkeys(columns, ".1f") | {"answered": ".2%"}
    return Section("Kinds of calls", tables=[Table("By stage", "kind", columns, rows, formats=formats)])


def _recovery_section(outcome: Outcome) -> Section | None:
    recoveries = _recoveries(outcome)
    if not recoveries:
        return None
    rows = [(name, [_seconds(seconds)]) for name, seconds in recoveries]
    note = "From the end of the overload until two seconds in a row have at least 95 % answers and a p99 within the target."
    peak = outcome.rate
    kept = [
        (row.name, [row.goodput / peak, row.refused, row.refused_ms]) for row in _rows(outcome) if row.offered > peak
    ]
    columns = ["goodput / highest rate", "refused", "refusal p50 ms"]
    formats = {columns[0]: ".2f", "refused": ".1%", columns[2]: ".1f"}
    return Section("Overload and recovery", note, tables=[
        Table("Beyond the highest rate", "stage", columns, kept, formats=formats),
        Table("Recovery", "after", ["time"], rows),
    ])  # fmt: skip


def _fault_section(outcome: Outcome) -> Section | None:
    faults = _faults(outcome)
    if not faults:
        return None
    rows = [
        (f"{one['kind']} at {one['at_s']:.0f} s", [
            one["error"] or _seconds(one["over_s"] - one["at_s"]), _seconds(one["full_capacity_s"]), int(one["failed"]), int(one["refused"])
        ])
        for one in faults
    ]  # fmt: skip
    columns = ["the service said it was over after", "full capacity after", "failed calls", "refused calls"]
    tables = [Table("Faults", "fault", columns, rows)]
    by_second = [
        (f"{one['kind']}, second {second}", [code, count]) for one in faults for second, code, count in one["by_second"]
    ]
    if by_second:
        tables.append(Table("Failed calls by second and code", "when", ["code", "calls"], by_second))
    return Section("Faults under load", "", tables=tables)


def _process_section(outcome: Outcome) -> Section | None:
    by_stage = [outcome.watch.by_name(*span) for span in outcome.spans]
    names = sorted({name for one in by_stage for name in one})
    if not names:
        return Section(
            "Processes of the service",
            "Not seen: the service runs on another machine, or its processes belong to somebody else.",
        )
    columns = [stage.name for stage in outcome.stages]
    cores = [(name, [one[name][0] if name in one else math.nan for one in by_stage]) for name in names]
    memory = [(name, [one[name][1] / MIB if name in one else math.nan for one in by_stage]) for name in names]
    most = "Largest resident memory, MiB (shared pages count for each process)"
    return Section(
        "Processes of the service",
        plots=[plots.memory_plot(outcome.watch.totals())],
        tables=[
            Table("Mean cores", "process", columns, cores, formats=dict.fromkeys(columns, ".2f")),
            Table(most, "process", columns, memory, formats=dict.fromkeys(columns, ",.0f")),
        ],
    )


def _slope_section(outcome: Outcome) -> Section | None:
    slopes = _slopes(outcome)
    if not slopes:
        return None
    columns = ["change in an hour", "mean", "can it be told from 0?"]
    rows: list[tuple[str, list[Cell]]] = [
        (name, [Interval(one.per_hour, one.low, one.high, 0, 0), one.mean, _told(one)]) for name, one in slopes.items()
    ]
    return Section(
        "Does anything grow?",
        "Slopes of a line through the longest stage, with 95 % intervals from means of blocks.",
        tables=[Table("Slopes", "value", columns, rows, formats=dict.fromkeys(columns, ",.2f"))],
    )


def _told(one: Slope) -> str:
    if math.isnan(one.per_hour):
        return "too little to tell"
    return "it grows" if one.is_growth else "it falls" if one.differs_from_zero else "no"


def _quality_section(outcome: Outcome) -> Section:
    shares = quality_shares(outcome.tally)
    rows: list[tuple[str, list[float]]] = [(name, [share]) for name, share in shares.items()]
    rows.append(("the same ten products when asked twice while idle", [outcome.prepared.idle_again]))
    read = sum(stage.quality["read"] for stage in outcome.tally.stages)
    note = f"Of {read:,} answers that were read. Changes of the catalogue, a new page size and new events change answers too."
    return Section(
        "Quality under load", note, tables=[Table("Shares", "of answers", ["share"], rows, formats={"share": ".2%"})]
    )


def _rows(outcome: Outcome) -> list[StageRow]:
    return [stage_row(stage, tally) for stage, tally in zip(outcome.stages, outcome.tally.stages, strict=True)]


def _recoveries(outcome: Outcome) -> list[tuple[str, float]]:
    """Returns how long each stage that follows one beyond the highest rate took to answer as it should."""
    found, start = [], 0.0
    for number, stage in enumerate(outcome.stages):
        before = outcome.stages[number - 1] if number else None
        over = before is not None and before.end_rate > outcome.rate >= stage.rate
        if over and not outcome.scenario.apart and not outcome.faults:
            seconds = recovery_s(outcome.tally.seconds, start, start + stage.seconds, outcome.settings.target)
            found.append((stage.name, seconds))
        start += stage.seconds
    return found


def _faults(outcome: Outcome) -> list[dict[str, Any]]:
    end = sum(stage.seconds for stage in outcome.stages)
    rows = []
    for number, fault in enumerate(outcome.faults):
        last = outcome.faults[number + 1].at_s if number + 1 < len(outcome.faults) else end
        failed = failed_by_second(outcome.tally, fault.at_s, last)
        seconds = outcome.tally.seconds
        refused = sum(seconds[n].codes["RESOURCE_EXHAUSTED"] for n in seconds if math.floor(fault.at_s) <= n < last)
        rows.append(
            {
                **asdict(fault),
                "full_capacity_s": _full_capacity_s(outcome, fault.at_s, last),
                "failed": sum(count for _, _, count in failed),
                "refused": refused,
                "by_second": failed,
            }
        )
    return rows


def _full_capacity_s(outcome: Outcome, at_s: float, last: float) -> float:
    """Returns the seconds from a fault until the end of the last second that was not as it should be, if there are good ones after it."""
    target, seconds = outcome.settings.target, outcome.tally.seconds
    worst = math.nan
    for number in range(math.floor(at_s), math.floor(last)):
        if recovery_s(seconds, number, number + 1, target) == math.inf:
            worst = number + 1
    if math.isnan(worst):
        return 0.0
    return worst - at_s if worst < math.floor(last) else math.inf


def _slopes(outcome: Outcome) -> dict[str, Slope]:
    longest = max(range(len(outcome.stages)), key=lambda n: outcome.stages[n].seconds)
    stage = outcome.stages[longest]
    if stage.seconds < LEAST_SLOPE_S or stage.rate != stage.end_rate or outcome.faults:
        return {}
    start = sum(one.seconds for one in outcome.stages[:longest])
    rows = [row for row in second_rows(outcome.tally) if start + 1 <= row["second"] < start + stage.seconds - 1]
    begin, end = outcome.spans[longest]
    totals = [look for look in outcome.watch.totals() if begin <= look[0] <= end]
    at = [look[0] for look in totals]
    return {
        "p99 of a second, ms": slope([row["second"] for row in rows], [row["p99"] for row in rows]),
        **({"resident memory, MiB": slope(at, [rss / MIB for _, rss, _ in totals])} if totals else {}),
        **({"open files": slope(at, [float(files) for _, _, files in totals])} if totals else {}),
    }


def _errors(outcome: Outcome) -> list[tuple[str, int]]:
    total: dict[str, int] = {}
    for stage in outcome.tally.stages:
        for error, count in stage.errors.items():
            total[error] = total.get(error, 0) + count
    return sorted(total.items(), key=lambda item: -item[1])


def _write_histograms(outcome: Outcome, folder: Path) -> None:
    """Writes the latencies in the format of HDR histogram logs, in microseconds: by stage with three digits, by second with two."""
    head = (
        "#[Histogram log format version 1.3]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    )
    start, lines = 0.0, []
    for stage, tally in zip(outcome.stages, outcome.tally.stages, strict=True):
        name = stage.name.replace(",", " ").replace(" ", "_")
        lines.append(f"Tag={name}," + _log_line(start, stage.seconds, tally.latencies()))
        start += stage.seconds
    (folder / "stages.hlog").write_text(head + "".join(lines), encoding="utf-8")
    by_second = [_log_line(n, 1.0, second.latency) for n, second in sorted(outcome.tally.seconds.items())]
    (folder / "seconds.hlog").write_text(head + "".join(by_second), encoding="utf-8")


def _log_line(start: float, seconds: float, times: Histogram) -> str:
    most = times.max_ms if times.count else 0.0
    return f"{start:.3f},{seconds:.3f},{most:.3f},{times.counts.encode().decode()}\n"


def _data(outcome: Outcome) -> dict[str, Any]:
    environment = outcome.environment()
    before, after = outcome.load_average
    return {
        "service": str(outcome.settings.bundle) if outcome.settings.bundle else outcome.settings.server.address,
        "catalogue": f"{environment['catalogue']}, {environment['products']:,} products",
        "bundle version": environment["bundle_version"],
        "encoder": environment["encoder"],
        "server version": environment["server_version"],
        "load average": f"{before:.1f} before, {after:.1f} after; load generator {outcome.watch.generator_cores:.2f} cores, "
        f"everything else {outcome.watch.other_cores:.2f}",
    }


def _machine(outcome: Outcome) -> str:
    machine = outcome.environment()["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"


def _installed() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _ms(value: float) -> str:
    return f"{value:.2f} ms"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if math.isfinite(value) else "not within the run"
