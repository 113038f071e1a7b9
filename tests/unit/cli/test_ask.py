"""The clients of a service: requests that are refused before a call, and calls that fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from aisle.v1 import product_pb2, search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from models.events.event import EVENT_SCHEMA
from serving.cli.ask import SelectionOptions
from serving.cli.main import app

CLIENTS = (
    ["search", "lamp"],
    ["rank", "lamp", "--title", "Lamp"],
    ["classify", "lamp"],
)


def refuse(_request: search_pb2.SearchRequest, context: grpc.ServicerContext) -> None:
    """Requires a key, and fails all the same."""
    if dict(context.invocation_metadata()).get("authorization") != "Bearer secret":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "an API key is needed")
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "page_size: at most 100")


recorded: list[shopper_pb2.Event] = []


def keep(request: shopper_pb2.RecordEventsRequest, _context: grpc.ServicerContext) -> shopper_pb2.RecordEventsResponse:
    recorded.extend(request.events)
    return shopper_pb2.RecordEventsResponse(recorded=len(request.events))


@pytest.fixture
def address() -> Iterator[str]:
    searches, shoppers = search_pb2_grpc.SearchServiceServicer(), shopper_pb2_grpc.ShopperServiceServicer()
    searches.Search, shoppers.RecordEvents = refuse, keep  # type: ignore[method-assign, assignment]
    server = grpc.server(futures.ThreadPoolExecutor(1))
    search_pb2_grpc.add_SearchServiceServicer_to_server(searches, server)
    shopper_pb2_grpc.add_ShopperServiceServicer_to_server(shoppers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    recorded.clear()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def refused(*arguments: object) -> str:
    """Returns the one line of a command that failed."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", CLIENTS, ids=lambda command: command[0])
def test_without_a_service_every_client_says_how_to_start_one(command: list[str]) -> None:
    line = refused(*command, "--server", "127.0.0.1:1")
    assert line.startswith("error: UNAVAILABLE: ")
    assert "is there a service on 127.0.0.1:1? Start one with 'aisle serve'" in line


def test_a_failed_call_shows_its_status_and_reason(address: str) -> None:
    assert refused("search", "lamp", "--server", address) == (
        "error: UNAUTHENTICATED: an API key is needed; set --api-key or AISLE_API_KEY"
    )
    assert refused("search", "lamp", "--server", address, "--api-key", "secret") == (
        "error: INVALID_ARGUMENT: page_size: at most 100"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["search", "lamp", "--compare"], "--compare needs --shopper: without a shopper both results are the same"),
        (["search", "lamp", "--types", "some"], "--types some: choose one of off, facets, boost, filter"),
        (["search", "lamp", "--rank", "best"], "--rank best: choose one of none, student, teacher"),
        (["search", "lamp", "--boost", "new"], "--boost new: say how much, as in --boost new=0.2"),
        (
            ["rank", "lamp", "--title", "x", "--weights", "1,2"],
            "--weights 1,2: give three numbers, for a click, a cart and a purchase, such as 1,4,16",
        ),
        (
            ["rank", "lamp", "--title", "x", "--max-each-brand", "x"],
            "--max-each-brand x: give one number, such as 2, or two, such as 2/24",
        ),
        (["rank", "lamp"], "name at least one candidate, with --product ID or --title TEXT"),
        (["search", "lamp", "--where", "x"], "--where x: give NAME=VALUE, NAME>=LOW, NAME<=HIGH or NAME==true"),
        (["search", "lamp", "--where", "x>=wide"], "--where x>=wide: 'wide' is no number"),
        (["search", "lamp", "--where", "x==1"], "--where x==1: after == comes true or false"),
        (["search", "--facet", "x=5"], "--facet x=5: give ranges as LOW..HIGH, such as 0..500,500.."),
        (["record", "/no/such.parquet"], "there is no /no/such.parquet"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_call(arguments: list[str], line: str) -> None:
    assert refused(*arguments) == f"error: {line}"


def test_what_a_selection_says_becomes_the_request() -> None:
    options = SelectionOptions(
        where=["colour=red", "colour=dark=blue", "width>=5", "width<=9.5", "released<=2024-05-31", "new==false"],
        facet=["brand", "colour~re", "price=0..500,500.."],
        sort="-price",
    )
    assert options.attribute_filters() == [
        product_pb2.AttributeFilter(name="colour", values=["red", "dark=blue"]),
        product_pb2.AttributeFilter(name="width", min=5, max=9.5),
        product_pb2.AttributeFilter(name="released", to_date="2024-05-31"),
        product_pb2.AttributeFilter(name="new", **{"is": False}),
    ]
    ranges = [search_pb2.NumberRange(min=0, max=500), search_pb2.NumberRange(min=500)]
    assert options.facets() == [
        search_pb2.FacetRequest(name="brand"),
        search_pb2.FacetRequest(name="colour", value_text="re"),
        search_pb2.FacetRequest(name="price", ranges=ranges),
    ]
    assert options.order() == search_pb2.Sort(by="price", descending=True)
    assert SelectionOptions().order() is None


def test_a_client_certificate_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("")
    pem = tmp_path / "pem"
    assert "--cert and --cert-key need --ca" in refused("search", "lamp", "--cert", pem, "--cert-key", pem)
    assert "give --cert and --cert-key together" in refused("search", "lamp", "--ca", pem, "--cert", pem)


def test_a_recorded_log_is_what_identified_shoppers_did(address: str, tmp_path: Path) -> None:
    row = {field.name: "" for field in EVENT_SCHEMA} | {"time": 1_000, "position": None, "price_minor": None}
    rows = [
        row | {"id": "1", "shopper_id": "ann", "product_id": "p1", "kind": "click"},
        row | {"id": "2", "shopper_id": "ann", "product_id": "p2", "kind": "impression"},
        row | {"id": "3", "shopper_id": "", "product_id": "p3", "kind": "click"},
        row | {"id": "4", "shopper_id": "bob", "product_id": "p4", "kind": "purchase", "time": 61_000},
    ]
    log = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENT_SCHEMA), log)
    result = CliRunner().invoke(app, ["record", str(log), "--server", address])
    assert "recorded 2 events, 0 were known, 0 refused" in result.output
    assert [(event.shopper_id, event.product_id, event.time_ms) for event in recorded] == [
        ("ann", "p1", 1_000),
        ("bob", "p4", 61_000),
    ]
    recorded.clear()
    CliRunner().invoke(app, ["record", str(log), "--server", address, "--as-of-now"])
    assert recorded[1].time_ms - recorded[0].time_ms == 60_000
    assert abs(recorded[1].time_ms / 1000 - time.time()) < 60
    recorded.clear()
    CliRunner().invoke(app, ["record", str(log), "--server", address, "--shopper", "bob"])
    assert [event.shopper_id for event in recorded] == ["bob"]
    recorded.clear()
    shown = pa.table({"request_id": ["r1", "r2", "r3", None]})
    pq.write_table(pq.read_table(log).append_column("request_id", shown["request_id"]), log)
    CliRunner().invoke(app, ["record", str(log), "--server", address])
    assert [(event.shopper_id, event.request_id) for event in recorded] == [("ann", "r1"), ("bob", "")]
    (tmp_path / "other.parquet").write_text("x")
    assert "other.parquet is not a log in Parquet" in refused("record", tmp_path / "other.parquet", "--server", address)
