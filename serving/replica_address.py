"""The address of the gRPC server that Serve opens in every replica, for calls between deployments.

Serve 2.60 binds it to every interface, whatever the address of the node is, and has no setting for it.
"""

from __future__ import annotations

import ipaddress

import ray
from ray._common.network_utils import build_address
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica


def bind_to_loopback() -> None:
    """Binds the server of this process to the node's address if that is loopback. A replica calls it in its constructor, before Serve
    opens the server."""
    node = ray.util.get_node_ip_address()
    if ipaddress.ip_address(node).is_loopback:
        replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, build_address(node, 0))
