"""The ways in which a service can search, for comparisons: without words, without ranking, as shoppers get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from serving.cli.client import Connection

DEPTH = 1_000  # hits of a search


def ways_to_search(connection: Connection, bundle: Bundle, locale: str) -> Mapping[str, Callable[[str], Sequence[str]]]:
    """Returns what answers a query with product ids, best first; the last is what shoppers get. Raises BundleError if the service serves
    another bundle."""
    info = connection.call(info_pb2_grpc.InfoServiceStub(connection.channel).GetInfo, info_pb2.GetInfoRequest())
    if info.bundle_version != bundle.manifest.version:
        raise BundleError(
            f"the service serves {info.bundle_version}, and {bundle.folder} is {bundle.manifest.version}; name the bundle that is served"
        )
    unranked = search_pb2.RANK_MODEL_NONE
    requests = {
        "vectors alone": search_pb2.SearchRequest(lexical_weight=0, rank_model=unranked),
        "words and vectors": search_pb2.SearchRequest(rank_model=unranked),
    }
    if info.HasField("ranker"):
        requests["ranked"] = search_pb2.SearchRequest()
    page_size = info.limits.max_page_size
    return {name: partial(_search, connection, request, locale, page_size) for name, request in requests.items()}


def _search(
    connection: Connection, common: search_pb2.SearchRequest, locale: str, page_size: int, query: str
) -> Sequence[str]:
    stub = search_pb2_grpc.SearchServiceStub(connection.channel)
    request = search_pb2.SearchRequest(query=query, locale=locale, page_size=page_size, product_fields=["title"])
    request.MergeFrom(common)
    ids: list[str] = []
    while len(ids) < DEPTH:
        answer = connection.call(stub.Search, request)
        ids += [hit.product_id for hit in answer.hits]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    return ids
