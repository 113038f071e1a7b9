"""The command line of the fuzzer."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.fuzz.calls import Outcome
from tests.fuzz.checks import told
from tests.fuzz.run import Fault, Report, Service

out = Console()
err = Console(stderr=True)


def main(
    calls: Annotated[int, typer.Option(min=1, help="Number of calls.")] = 10_000,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the run. Unset: another one each time; it is printed.")
    ] = None,
    target: Annotated[str, typer.Option(help="Address of the running service.")] = "127.0.0.1:9000",
    key: Annotated[
        str, typer.Option(envvar="AISLE_API_KEY", help="API key with all scopes ('*'), if the service needs one.")
    ] = "",
    only: Annotated[int | None, typer.Option(min=0, help="Repeats just the call of this number, and shows it.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Number of calls at a time.")] = 32,
    kinds: Annotated[bool, typer.Option("--kinds", help="Also counts by what was odd about the calls.")] = False,
) -> None:
    """Sends random calls of every method to a running service, and says where it does not keep its contract.

    Messages are drawn from the .proto files: valid, nearly valid, broken, damaged bytes; of unicode, control characters, numbers out of
    range, lists up to the limits. Calls are cut short, cancelled, in a hurry, to wrong methods, with odd metadata; some are HTTP/2 frames
    that no client would send.

    Faults are: INTERNAL or UNKNOWN; a call without an answer by its deadline; a lost connection; an INVALID_ARGUMENT that names no field of
    its message; an answer with NaN; a health other than SERVING; a known search that answers otherwise than before.

    A service to try:  aisle serve --bundle bundles/starter.  Events are recorded for shoppers "fuzz-0" to "fuzz-39", and deleted at the
    end; messages with odd shopper ids may leave a few more, so do not use a store that matters.

    The same seed against the same bundle makes the same calls on the same day. Exit code 1: there were faults.
    """
    seed = random.randrange(10**6) if seed is None else seed
    report = asyncio.run(_run(target, key, seed, calls, only, at_once))
    _print_counts(report, kinds=kinds)
    if only is None:
        out.print(f"seed {seed}: {report.num_calls:,} calls in {report.seconds:.1f} s, {len(report.faults)} faults")
    for fault in report.faults:
        _print_fault(fault, seed, target)
    raise typer.Exit(1 if report.faults else 0)


async def _run(target: str, key: str, seed: int, calls: int, only: int | None, at_once: int) -> Report:
    service = Service(target, key)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    numbers = range(calls) if only is None else (only,)
    try:
        with Progress(*columns, console=err, disable=only is not None) as progress:
            task = progress.add_task(f"seed {seed}", total=calls)

            def told_of(outcome: Outcome) -> None:
                progress.advance(task)
                if only is not None:
                    _print_call(outcome)

            return await service.run(seed, numbers, at_once=at_once, told=told_of)
    except grpc.aio.AioRpcError as error:
        err.print(f"[red]{escape(target)} does not answer[/]: {error.code().name} {escape(error.details() or '')}")
        raise typer.Exit(2) from None
    finally:
        await service.close()


def _print_counts(report: Report, *, kinds: bool) -> None:
    for counts in (report.by_method, *((report.by_kind,) if kinds else ())):
        names = sorted({name for name, _ in counts})
        width = max((len(name) for name in names), default=0)
        for name in names:
            codes = sorted(((count, code) for (of, code), count in counts.items() if of == name), reverse=True)
            line = ", ".join(f"{code} {count:,}" for count, code in codes)
            out.print(f"{name.ljust(width)}  {line}", markup=False, highlight=False, soft_wrap=True)


def _print_fault(fault: Fault, seed: int, target: str) -> None:
    where = "" if fault.number is None else f"call {fault.number}: "
    out.print(f"[red]{where}[/]{escape(_short(fault.what))}", highlight=False, soft_wrap=True)
    if fault.outcome:
        out.print(f"    {escape(told(fault.outcome))}", highlight=False, soft_wrap=True)
        out.print(
            f"    repeat it: python -m tests.fuzz --seed {seed} --only {fault.number} --target {target}", soft_wrap=True
        )


def _print_call(outcome: Outcome) -> None:
    """Prints a call with its messages as text."""
    plan = outcome.plan
    out.print(f"{plan.path}  ({plan.kind})", highlight=False)
    out.print(
        f"deadline {plan.timeout_s} s, cancelled after {plan.cancel_after_s} s, metadata {plan.metadata!r:.500}",
        markup=False,
    )
    for message in plan.messages:
        out.print(f"message of {len(message):,} bytes: {message!r:.1500}", markup=False, soft_wrap=True)
    out.print(f"-> {outcome.code} {outcome.reason} {_short(outcome.message)}", markup=False, soft_wrap=True)
    out.print(f"   {outcome.violations!r:.1500}", markup=False, soft_wrap=True)


def _short(text: str) -> str:
    """Returns a text without what a terminal would obey."""
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\u{ord(found[0]):04x}", text)[:600]


if __name__ == "__main__":
    typer.run(main)
