"""A process that generates load for a coordinator: `python -m loadtest.generator.worker HOST:PORT`, or `aisle load --join HOST:PORT` on
another machine. The key that both sides prove to have stands in AISLE_LOAD_KEY; who has it is trusted, as messages are pickled."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

from loadtest.errors import LoadError
from loadtest.generator.calls import Calls
from loadtest.generator.plan import Plan
from loadtest.generator.sender import send

KEY = "AISLE_LOAD_KEY"
SWITCH_S = 0.0002  # the sending thread waits for the other one no longer than this
PRIORITY = -10  # callers do not wait for the cores of the service that they call


def work(address: str) -> None:
    """Sends what the coordinator asks for until it closes the connection. Raises LoadError if there is no coordinator."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise LoadError(f"--join {address}: give the address of the coordinator as host:port")
    try:
        connection = Client((host, int(port)), authkey=os.environ.get(KEY, "").encode())
    except (AuthenticationError, ConnectionResetError, EOFError):  # it may hang up before its refusal was read
        raise LoadError(f"{address} does not take the key in {KEY}; the coordinator prints the right one") from None
    except OSError as error:
        raise LoadError(f"no coordinator of a load test answers on {address}: {error}") from None
    sys.setswitchinterval(SWITCH_S)
    raised = _raise_priority()
    gc.freeze()
    calls = Calls(())
    with connection, contextlib.suppress(EOFError):
        connection.send(raised)
        while True:
            asked = connection.recv()
            if isinstance(asked, Calls):
                calls = asked
                continue
            target, plan, seed, start_in_s = asked
            if not isinstance(plan, Plan):
                raise LoadError(f"{address} asks for {plan!r}: coordinator and worker are of different versions")
            gc.collect()
            try:
                connection.send(send(target, calls, plan, seed=seed, start_in_s=start_in_s))
            except LoadError as error:
                connection.send(error)


def _raise_priority() -> bool:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        return False
    return True


if __name__ == "__main__":
    try:
        work(sys.argv[1])
    except LoadError as failure:
        raise SystemExit(str(failure)) from None
