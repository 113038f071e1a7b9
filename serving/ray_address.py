"""The address of a Ray cluster that somebody else runs."""

from __future__ import annotations

import socket

from models.errors import InputError

AUTO = "auto"  # the cluster of which this machine is a part
ANSWER_S = 5.0  # Ray itself tries for many minutes, and says nothing


class ClusterError(InputError):
    """There is no such cluster; the message says what to name."""


def check_answers(address: str) -> None:
    """Refuses an address at which nothing listens. Raises ClusterError."""
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"--ray-address is {AUTO} or HOST:PORT, as 'ray start --head' prints it, not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}); --ray-address is that of its head, as 'ray start --head' prints it"
        ) from None
