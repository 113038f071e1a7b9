"""aisle load: a load test that judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from serving.cli.failures import needs
from serving.cli.options import ServiceOptions, as_command
from serving.cli.terminal import command_line, fail, out


@as_command
def load(
    *,
    service: ServiceOptions,
    bundle: Annotated[
        Path | None, Option(help="Serve this bundle for the test, on a port of its own, instead of --server.")
    ] = None,
    config: Annotated[
        Path | None, Option(exists=True, dir_okay=False, help="Configuration of the service of --bundle.")
    ] = None,
    queries: Annotated[
        Path | None, Option(help="One query a line, the most popular first. Default: of the bundle's titles.")
    ] = None,
    profile: Annotated[
        str,
        Option(help="sweep, steady, overload, spike, ramp, soak or mix: what is run after the search for the rate."),
    ] = "sweep",
    scenario: Annotated[
        Path | None,
        Option(exists=True, dir_okay=False, help="Stages, mix, traffic and faults in TOML, instead of --profile."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        Option(
            help="kill-gateway, kill-stage, update or bad-update, under --profile steady, mix or soak. Repeatable; needs --bundle."
        ),
    ] = None,
    seconds: Annotated[float | None, Option(min=1, help="Length of the profile. Default: its own.")] = None,
    p99_ms: Annotated[
        float, Option(min=0.1, help="The target: p99 of latency, counted from the planned time of a call.")
    ] = 100.0,
    max_errors: Annotated[
        float, Option(min=0, max=100, help="The target: per cent of calls that may fail or be refused.")
    ] = 0.1,
    deadline_ms: Annotated[float, Option(min=1, max=60_000, help="Deadline of a call.")] = 1000.0,
    retries: Annotated[
        bool, Option("--retries", help="Callers retry as the contract documents. Default: every error counts.")
    ] = False,
    rate: Annotated[
        float | None, Option(min=0.1, help="Take this for the highest rate instead of searching for it: no verdict.")
    ] = None,
    at_least: Annotated[
        float | None, Option(min=0.1, help="Exit with 3 if fewer calls a second keep the target.")
    ] = None,
    before: Annotated[
        Path | None, Option(help="report.json of an earlier run: better, same or worse? Exit with 4 if worse.")
    ] = None,
    margin: Annotated[
        float, Option(min=0, max=50, help="Per cent by which the rate must differ to be better or worse.")
    ] = 5.0,
    window_s: Annotated[float, Option(min=1, max=60, help="Seconds of a window of the search.")] = 4.0,
    turns: Annotated[
        int, Option(min=2, max=40, help="Times that the search must turn; more take longer and narrow the interval.")
    ] = 10,
    workers: Annotated[int, Option(min=0, max=64, help="Processes of this machine that send.")] = 1,
    remote_workers: Annotated[
        int, Option(min=0, max=256, help="Processes of other machines to wait for; needs --listen.")
    ] = 0,
    listen: Annotated[str, Option(metavar="HOST:PORT", help="Address of this machine that they join.")] = "",
    join: Annotated[
        str, Option(metavar="HOST:PORT", help="Send for the load test that listens there, and nothing else.")
    ] = "",
    locust_users: Annotated[
        int, Option(min=0, max=10_000, help="Also run so many Locust users, and keep Locust's own report.")
    ] = 0,
    seed: Annotated[int, Option(min=0, help="Another seed draws other calls at other times.")] = 0,
    out_folder: Annotated[Path, Option("--out", help="Folder for report.html, report.json and the histograms.")] = Path(
        "reports/load"
    ),
) -> None:
    """Loads a service at planned times and says what it can do: the highest rate that keeps a target, and whether that is better or worse
    than before.

    Exit codes: 0 passed, 1 error, 3 fewer than --at-least, 4 worse than --before, 5 void, as the generator itself was at fault.

      aisle load --bundle bundles/sample --out reports/before

      aisle load --bundle bundles/new --before reports/before/report.json --at-least 150
    """  # fmt: skip
    with needs("loadtest", "hdrh", "psutil", "jinja2", "matplotlib"):
        from loadtest.generator.worker import work

        if join:
            work(join)
            return
        from loadtest.generator.connection import Target as Server
        from loadtest.judge.report import print_report, write_report
        from loadtest.judge.run import LoadSettings, measure_load
        from loadtest.judge.search_rate import Target

        if workers + remote_workers < 1:
            fail("--workers 0 needs --remote-workers: somebody must send")
        if remote_workers and not listen:
            fail("--remote-workers needs --listen, the address of this machine that they join")
        if (service.cert is None) != (service.cert_key is None) or (service.cert and not service.ca):
            fail("give --cert and --cert-key together, and --ca with them")
        if config and not bundle:
            fail("--config is of the service that --bundle starts")
        if rate and (at_least or before):
            fail("--rate skips the search, so there is nothing to compare: leave out --at-least and --before")
        ca, certificate, key = (
            path.read_bytes() if path else None for path in (service.ca, service.cert, service.cert_key)
        )
        settings = LoadSettings(
            server=Server(service.server, deadline_ms / 1000, service.api_key, ca, certificate, key, retries),
            bundle=bundle, config=config, queries=queries, profile=profile, scenario=scenario, faults=tuple(fault or ()),
            seconds=seconds, target=Target(p99_ms, max_errors / 100), rate=rate, at_least=at_least, before=before,
            margin=margin / 100, window_s=window_s, turns=turns, workers=workers, remote_workers=remote_workers, listen=listen,
            locust_users=locust_users, seed=seed, out=out_folder, command=command_line(),
        )  # fmt: skip
        outcome = measure_load(settings, out)
        page = write_report(outcome)
        print_report(outcome, out)
        out.print(f"report: {page}", highlight=False)
    if outcome.exit_code:
        raise Exit(outcome.exit_code)
