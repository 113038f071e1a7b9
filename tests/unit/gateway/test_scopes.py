"""What each scope tells of a shopper: docs/contract.md has a row for every field that does, and every other field is known not to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aisle.v1 import embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from serving.edge.keys import SCOPES

MODULES = (embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2)
# Fields of answers that hold nothing of a shopper, whatever is below them.
OF_NO_SHOPPER = {
    "SearchResponse.next_page_token", "SearchResponse.request_id", "SearchResponse.bundle_version", "SearchResponse.index_version",
    "SearchResponse.catalogue_sequence", "SearchResponse.coverage",
    "SearchResponse.degradations", "SearchResponse.warnings", "SearchResponse.corrected_query", "SearchResponse.understood",
    "SearchResponse.alternative_queries", "SearchResponse.product_types",
    "SearchResponse.ranked_by", "SearchResponse.ranked_depth", "RankResponse.unknown_product_ids", "RankResponse.ranked_by",
    "RankResponse.degradations", "RankResponse.request_id", "RankResponse.bundle_version", "ClassifyResponse.results",
    "ClassifyResponse.request_id", "ClassifyResponse.bundle_version", "EmbedQueriesResponse.vectors", "EmbedQueriesResponse.request_id",
    "EmbedQueriesResponse.bundle_version", "EmbedProductsResponse.vectors", "EmbedProductsResponse.request_id",
    "EmbedProductsResponse.bundle_version", "EmbedShopperResponse.request_id", "EmbedShopperResponse.bundle_version",
    "RecordEventsResponse.recorded", "RecordEventsResponse.refused", "RecordEventsResponse.rejected", "RecordEventsResponse.request_id",
    "BatchTotals.recorded", "BatchTotals.refused", "BatchTotals.rejected", "StreamEventsResponse.request_id",
    "GetHistoryResponse.request_id", "ForgetShopperResponse.request_id", "GetInfoResponse.server_version",
    "GetInfoResponse.bundle_version", "GetInfoResponse.catalogue", "GetInfoResponse.encoder", "GetInfoResponse.index",
    "GetInfoResponse.limits", "GetInfoResponse.request_id", "GetInfoResponse.shopper_model", "GetInfoResponse.type_model",
    "GetInfoResponse.ranker", "GetStatsResponse.replica_id", "GetStatsResponse.uptime_s", "GetStatsResponse.stages",
    "GetStatsResponse.calls", "GetStatsResponse.request_id", "GetStatsResponse.request_log",
}  # fmt: skip
# Messages whose fields are looked at one by one.
OPENED = {"StreamEventsResponse.batches"}


def rows() -> list[tuple[list[str], list[str]]]:
    """The fields and the scopes of each row of the table."""
    page = (Path(__file__).parents[3] / "docs" / "contract.md").read_text(encoding="utf-8")
    section = page[page.index("## Scopes") : page.index("## Units")]
    table = re.findall(r"^\| (.+) \| .+ \| (.+) \|$", section, re.MULTILINE)[1:]
    return [(re.findall(r"`(\w+\.\w+)`", fields), re.findall(r"`(\w+)`", scopes)) for fields, scopes in table]


def answers() -> list[Descriptor]:
    services = [service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()]
    return [method.output_type for service in services for method in service.methods]


def fields_of(message: Descriptor) -> list[FieldDescriptor]:
    found = []
    for field in message.fields:
        found += fields_of(field.message_type) if f"{message.name}.{field.name}" in OPENED else [field]
    return found


@pytest.mark.parametrize("answer", answers(), ids=lambda answer: answer.name)
def test_every_field_of_an_answer_is_known_to_tell_of_a_shopper_or_not(answer: Descriptor) -> None:
    told = {field for fields, _ in rows() for field in fields}
    names = [f"{field.containing_type.name}.{field.name}" for field in fields_of(answer)]
    assert [name for name in names if (name in told) == (name in OF_NO_SHOPPER)] == []


def test_the_table_names_fields_and_scopes_that_exist() -> None:
    messages = {
        name: message for module in MODULES for name, message in module.DESCRIPTOR.message_types_by_name.items()
    }
    assert len(rows()) >= 7
    for fields, scopes in rows():
        assert fields
        for field in fields:
            message, name = field.split(".")
            assert name in messages[message].fields_by_name
        assert scopes
        assert set(scopes) <= set(SCOPES)
