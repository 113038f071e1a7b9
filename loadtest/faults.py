"""Faults of a service that was started here: gateways and stages that are killed, updates that work, one that cannot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from loadtest.benchmarks.service import Service
from loadtest.errors import LoadError

UPDATE_S = 240.0


def kill_gateway(service: Service) -> None:
    """Kills a gateway (SIGKILL) and returns when another has taken its place."""
    ready = len(service.events("gateway ready"))
    os.kill(min(service.gateways()), signal.SIGKILL)
    service.wait_for("gateway ready", ready + 1)


def kill_stage(service: Service) -> None:
    """Kills a replica of a stage and returns when another has taken its place. Raises LoadError where all stages run in the gateways."""
    started = service.events("stage ready")
    alive = [int(line["pid"]) for line in started if Path(f"/proc/{line['pid']}").exists()]
    if not alive:
        raise LoadError('no stage has a process of its own: give --config with placement = "remote" for one of them')
    os.kill(alive[0], signal.SIGKILL)
    service.wait_for("stage ready", len(started) + 1)


def change(service: Service) -> None:
    """Changes the configuration: the default page size grows by one."""
    text = service.config.read_text(encoding="utf-8")
    head, _, size = text.partition("[limits]\ndefault_page_size = ")
    service.config.write_text(f"{head}[limits]\ndefault_page_size = {int(size or 9) % 24 + 1}\n", encoding="utf-8")


def update(service: Service) -> None:
    """Rolls out a changed configuration and returns when the last old gateway has stopped."""
    change(service)
    service.update()


def bad_update(service: Service) -> None:
    """Asks for a configuration that cannot be served, and returns when the service has said so."""
    good, refused = service.config.read_text(encoding="utf-8"), len(service.events("not rolled out; serving as before"))
    service.config.write_text(f"{good}\n[nonsense]\nkey = 1\n", encoding="utf-8")
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("not rolled out; serving as before", refused + 1, UPDATE_S)
    service.config.write_text(good, encoding="utf-8")


FAULTS = {"kill-gateway": kill_gateway, "kill-stage": kill_stage, "update": update, "bad-update": bad_update}
