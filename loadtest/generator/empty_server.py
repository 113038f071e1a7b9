"""A server that answers every call at once with the same page of search results: what the generator proves itself against.

python -m loadtest.generator.empty_server 127.0.0.1 7001

It is driven by gRPC's completion queue, as Aisle's edge is, and costs less for a call than the generator does.
"""

from __future__ import annotations

import sys

from aisle.v1 import product_pb2, search_pb2
from serving.edge.http2 import Http2Server, ServerCall


def prepared_answer() -> search_pb2.SearchResponse:
    """24 hits of usual size, about 5 kB."""
    product = product_pb2.Product(
        title="Halden Wireless Noise Cancelling Over-Ear Headphones", brand="Halden", category="Electronics > Audio",
        price_minor=19_999, in_stock=True, attributes={"colour": "midnight blue", "description": "Thirty hours of music."},
    )  # fmt: skip
    hits = [search_pb2.Hit(product_id=f"AS-{n:07}", score=1 - n / 100, product=product) for n in range(24)]
    return search_pb2.SearchResponse(hits=hits, request_id="0" * 32, bundle_version="0" * 12)


def serve(host: str, port: int) -> None:
    answer = prepared_answer().SerializeToString()

    def accept(call: ServerCall) -> None:
        call.watch(lambda _: None)
        call.read(lambda _: call.answer(answer, ()))

    def failed(error: Exception) -> None:
        raise error

    server = Http2Server([("grpc.so_reuseport", 0)])
    server.listen(f"{host}:{port}", None)
    server.serve(accept, failed)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
