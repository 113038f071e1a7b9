"""aisle serve: one run, from the claim of its port to the end of its last process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Exit, Option

from models.errors import InputError
from serving.cli.ask import try_query
from serving.cli.options import ServiceOptions, simulated_store
from serving.cli.terminal import fail

if TYPE_CHECKING:
    from serving.config import AisleConfig
    from serving.logs import Terminal
    from serving.port_claim import PortClaim

POLL_S = 0.2


def serve(
    bundle: Annotated[Path, Option(help="The bundle to serve.")],
    config: Annotated[Path | None, Option(help="Configuration in TOML; 'aisle config' prints one.")] = None,
    port: Annotated[int | None, Option(help="Port of the gRPC API; overrides the configuration.")] = None,
    host: Annotated[str | None, Option(help="Address to listen on; overrides the configuration.")] = None,
    log_format: Annotated[str | None, Option(help="'text' or 'json'; overrides the configuration.")] = None,
    ray_address: Annotated[str, Option(help="'local' starts Ray; 'auto' or host:port joins a cluster.")] = "local",
    query: Annotated[str, Option("--try", metavar="QUERY", help="Search for this as soon as the service is up.")] = "",
    demo: Annotated[
        Path | None,
        Option(
            callback=simulated_store,
            help="Store of 'aisle simulate': record its log, and show --try for two of its shoppers.",
        ),
    ] = None,
) -> None:
    """Serves a bundle. SIGTERM or Ctrl-C drains and stops it; SIGHUP reads bundle and configuration again and rolls them out."""
    from serving.config import load_config
    from serving.logs import captured_output, configure_logging, log

    server = {name: value for name, value in (("port", port), ("host", host)) if value is not None}
    overrides: dict[str, dict[str, Any]] = {"server": server, "log": {"format": log_format} if log_format else {}}

    def load() -> AisleConfig:
        return load_config(config, overrides)

    def on_serving(address: str, terminal: Terminal) -> None:
        if query:
            # A query that fails has printed why; the service goes on.
            with redirect_stdout(terminal.out), redirect_stderr(terminal.err), suppress(Exit):
                try_query(query, ServiceOptions(server=address), demo)

    style = log_format or "text"
    try:
        settings = load()
        style = settings.log.format
        with captured_output() as terminal:
            configure_logging(style, settings.log.level, out=terminal.err)
            _run(bundle, config, settings, ray_address, terminal, load, on_serving)
    except Exit:
        raise
    except SystemExit:  # SIGTERM while Ray, which has a handler of its own, is starting
        raise Exit(0) from None
    except Exception as error:
        if style != "json":
            if isinstance(error, RuntimeError):
                fail(str(error))
            raise
        configure_logging(style, "info")
        is_expected = isinstance(error, InputError | RuntimeError | OSError)
        log.error("cannot serve", exc_info=not is_expected, extra={"fields": {"error": str(error)}})
        raise Exit(1) from None


def _run(
    bundle: Path,
    config: Path | None,
    settings: AisleConfig,
    ray_address: str,
    terminal: Terminal,
    load: Callable[[], AisleConfig],
    on_serving: Callable[[str, Terminal], None],
) -> None:
    """Serves until a signal. Raises InputError for what does not fit, RuntimeError for what does not start."""
    from serving.logs import LineCollector, log
    from serving.port_claim import PortClaim
    from serving.run_folder import run_folder

    server, is_own = settings.server, ray_address == "local"
    started = time.monotonic()
    signals = _Signals()
    with run_folder(server.port if is_own else 0) as folder, ExitStack() as held:
        claim = PortClaim(server.host, server.port) if is_own else None
        exporter = None
        if settings.metrics.port:
            from serving.metrics.exporter import Exporter

            exporter = Exporter(settings.metrics, folder)
            held.callback(exporter.close)
        from serving import cluster  # loads Ray: seconds
        from serving.cli.compaction import Compaction

        collector = LineCollector(folder / "log.sock", terminal.err)
        held.callback(collector.close)
        cluster.check(bundle, settings)
        log.info("starting", extra={"fields": {"bundle": str(bundle), "port": server.port}})
        held.callback(cluster.stop, is_own=is_own)
        held.callback(log.info, "stopping")
        if is_own:
            cluster.start_ray(folder)
        else:
            cluster.join_ray(ray_address)
        signals.take()  # Ray set handlers of its own
        cluster.deploy(bundle, settings, str(collector.path))
        address = f"{server.host}:{server.port}"
        log.info("serving", extra={"fields": {"address": address, "seconds": time.monotonic() - started}})
        signals.is_serving = True
        on_serving(address, terminal)
        compaction = Compaction(bundle, config, folder)
        held.callback(compaction.stop)
        compaction.serves(settings.catalogue)
        while not signals.stop.wait(POLL_S):
            if exporter:
                exporter.sweep()
            was_built = compaction.poll()
            if was_built or signals.reload.is_set():
                signals.reload.clear()
                claim, rolled_out = _roll_out(bundle, load, claim, str(collector.path), signals.stop.is_set)
                if rolled_out:
                    compaction.serves(rolled_out.catalogue)
                    if rolled_out.metrics != settings.metrics:
                        log.warning("[metrics] is read at start alone; it stays as it was")
                elif was_built:
                    compaction.failed("it was built, and could not be rolled out")


def _roll_out(
    bundle: Path,
    load: Callable[[], AisleConfig],
    claim: PortClaim | None,
    log_socket: str,
    is_stopped: Callable[[], bool],
) -> tuple[PortClaim | None, AisleConfig | None]:
    """Deploys bundle and configuration of now, or goes on as before. Returns the claim of the port that is served, and the configuration if
    it was rolled out."""
    from serving import cluster
    from serving.logs import log
    from serving.port_claim import PortClaim

    new, settings = claim, None
    try:
        settings = load()
        if claim and settings.server.port != claim.port:
            new = PortClaim(settings.server.host, settings.server.port)
        cluster.deploy(bundle, settings, log_socket, is_stopped)
    except (InputError, RuntimeError) as error:
        log.error("not rolled out; serving as before", extra={"fields": {"error": str(error)}})
        new, unused, settings = claim, new, None
    else:
        log.info("rolled out", extra={"fields": {"bundle": str(bundle.resolve())}})
        unused = claim
    if unused and unused is not new:
        unused.close()
    return new, settings


class _Signals:
    """SIGTERM and SIGINT stop: at once while it starts, when `stop` is next looked at while it serves. SIGHUP sets `reload`."""

    def __init__(self) -> None:
        self.stop, self.reload = threading.Event(), threading.Event()
        self.is_serving = False
        self.take()

    def take(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, lambda *_: self.reload.set())

    def _on_stop(self, *_: object) -> None:
        was_asked = self.stop.is_set()
        self.stop.set()
        if not self.is_serving and not was_asked:
            raise SystemExit(0)  # typer's Exit is a RuntimeError, which a start that fails raises too
