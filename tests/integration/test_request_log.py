"""The loop closes: what a running service showed and what shoppers did there becomes a log that import reads and training learns from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from aisle.client import AisleClient
from aisle.v1 import info_pb2, info_pb2_grpc, product_pb2, search_pb2, shopper_pb2
from loadtest.benchmarks.service import Service, served
from models.bundles.bundle import Bundle
from models.events.event_log import open_log
from models.events.kinds import CLICK, IMPRESSION, PURCHASE
from models.ranking.feature_names import FEATURES
from models.ranking.impressions import read_impressions
from models.sample_store import CATALOGUE, EVENTS
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import PriceBands
from serving.cli.main import app

NUM_SEARCHES = 150
NUM_SHOPPERS = 20
PAGE_SIZE = 8
CLICK_PLACE = 3
UNLOGGED = "a page of another service"


@dataclass(frozen=True)
class Traffic:
    """A service after some searches, and clicks on each page but every fifth. `answers` are the pages, `config` is its configuration."""

    service: Service
    config: Path
    pages: Path
    answers: list[search_pb2.SearchResponse]


@pytest.fixture(scope="module")
def traffic(ranked_folder: Path, personal_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    folder = tmp_path_factory.mktemp("loop")
    config = folder / "aisle.toml"
    config.write_text(
        f"[shoppers]\npath = '{folder / 'shoppers.db'}'\n"
        f"[request_log]\nshare = 1\npath = '{folder / 'pages'}'\nshoppers = 'pseudonym'\nfeatures = true\nmax_file_s = 1\n"
    )
    queries = [query for query in open_log(personal_store / EVENTS).queries.to_pylist() if query][:NUM_SEARCHES]
    with served(ranked_folder, config.read_text()) as service, AisleClient(service.address, timeout_s=30) as aisle:
        aisle.record_events(shopper_pb2.RecordEventsRequest(events=map(earlier, range(NUM_SHOPPERS))))
        answers = []
        for n, query in enumerate(queries):
            request = search_pb2.SearchRequest(
                query=query, shopper_id=f"shopper {n % NUM_SHOPPERS}", page_size=PAGE_SIZE
            )
            answers.append(aisle.search(request))
            if n % 5:
                aisle.record_events(shopper_pb2.RecordEventsRequest(events=clicks(answers[n], n, query)))
        aisle.search(
            search_pb2.SearchRequest(
                sort=search_pb2.Sort(by="price"), filter=product_pb2.ProductFilter(in_stock_only=True)
            )
        )
        wait_for_pages(service, len(answers) + 1)
        yield Traffic(service, config, folder / "pages", answers)


def earlier(shopper: int) -> shopper_pb2.Event:
    """What a shopper did an hour ago, without a search: so the store knows the shopper."""
    return shopper_pb2.Event(
        id="earlier", time_ms=time.time_ns() // 1_000_000 - 3_600_000, shopper_id=f"shopper {shopper}", product_id="p",
        kind=shopper_pb2.EVENT_KIND_CLICK,
    )  # fmt: skip


def clicks(answer: search_pb2.SearchResponse, number: int, query: str) -> list[shopper_pb2.Event]:
    """A click on a product of the page, every third time a purchase too, and a click on a page that was not logged."""
    shown = answer.hits[min(CLICK_PLACE, len(answer.hits)) - 1].product_id

    def event(kind: str, product: str, request_id: str) -> shopper_pb2.Event:
        return shopper_pb2.Event(
            id=f"{kind} {number} {request_id}", time_ms=time.time_ns() // 1_000_000, shopper_id=f"shopper {number % NUM_SHOPPERS}",
            kind=shopper_pb2.EventKind.Value(f"EVENT_KIND_{kind}"), product_id=product, query=query, request_id=request_id,
        )  # fmt: skip

    bought = [event("PURCHASE", shown, answer.request_id)] if number % 3 == 0 else []
    return [event("CLICK", shown, answer.request_id), *bought, event("CLICK", answer.hits[0].product_id, UNLOGGED)]


def stats(service: Service) -> info_pb2.RequestLogStats:
    with grpc.insecure_channel(service.address) as channel:
        return info_pb2_grpc.InfoServiceStub(channel).GetStats(info_pb2.GetStatsRequest(), timeout=60).request_log


def wait_for_pages(service: Service, count: int) -> None:
    give_up = time.monotonic() + 60
    while stats(service).logged < count:
        assert time.monotonic() < give_up, stats(service)
        time.sleep(0.2)


def aisle(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "250"})
    assert told.exit_code == 0, told.output
    return told.output


@pytest.fixture(scope="module")
def exported(traffic: Traffic, ranked_folder: Path) -> tuple[Path, str]:
    """The log, and what the command said, while the service runs."""
    file = traffic.config.parent / "logs" / "events.parquet"
    said = aisle("export-events", "--bundle", ranked_folder, "--config", traffic.config, "--out", file)
    return file, said


def test_every_page_is_logged_as_it_was_answered(traffic: Traffic) -> None:
    counted = stats(traffic.service)
    assert (counted.logged, counted.dropped, counted.failed) == (len(traffic.answers) + 1, 0, 0)
    assert counted.files >= 1
    assert counted.folder_bytes == sum(file.stat().st_size for file in traffic.pages.iterdir())
    rows = [row for file in sorted(traffic.pages.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    by_request = {row["request_id"]: row for row in rows}
    assert len(by_request) == len(rows)
    for answer in traffic.answers:
        row = by_request[answer.request_id]
        assert row["product_id"] == [hit.product_id for hit in answer.hits]
        assert row["score"] == pytest.approx([hit.score for hit in answer.hits])
        assert row["price_minor"] == [
            hit.product.price_minor if hit.product.HasField("price_minor") else None for hit in answer.hits
        ]
        assert (row["ranked_by"], row["bundle_version"], row["locale"]) == ("student", answer.bundle_version, "en-US")
        assert len(row["features"]) == len(answer.hits) * len(FEATURES)
    browsed = by_request[(by_request.keys() - {answer.request_id for answer in traffic.answers}).pop()]
    assert (browsed["query"], browsed["sorted_by"], browsed["is_filtered"], browsed["features"]) == (
        "",
        "price",
        True,
        None,
    )


def test_the_ranker_learns_from_the_pages_and_the_clicks_on_them(
    traffic: Traffic, exported: tuple[Path, str], ranked_folder: Path
) -> None:
    file, said = exported
    clicked = [n for n in range(len(traffic.answers)) if n % 5]
    num_bought = sum(n % 3 == 0 for n in clicked)
    assert f"{len(clicked) + num_bought:,} events on the page that they name" in said
    assert f"{len(clicked):,} events without impressions: the page that they name was not logged" in said
    assert f"{NUM_SHOPPERS} events without impressions: they name no page, and none was found" in said
    assert "1 pages left out: without a query" in said
    log = open_log(file)
    kinds = np.bincount(log.kind, minlength=4)
    shown = sum(len(answer.hits) for answer in traffic.answers)
    assert (kinds[IMPRESSION], kinds[CLICK], kinds[PURCHASE]) == (shown, 2 * len(clicked) + NUM_SHOPPERS, num_bought)
    assert len(log.shoppers) == NUM_SHOPPERS
    assert (log.shopper >= 0).all(), "a page without a click has its shopper too"
    bundle = Bundle(ranked_folder)
    pages = read_impressions(log, bundle.products(), PriceBands.load(UNIFIED_PART.open(bundle)))
    places = pages.position[pages.labels[:, 0] > 0]
    assert len(places) == len(clicked)
    assert set(places.tolist()) <= {CLICK_PLACE, *range(1, CLICK_PLACE)}
    assert (pages.position > 0).all(), "a click on a page that was not logged joined another page"


def test_the_log_is_imported_and_training_finds_what_it_needs(
    exported: tuple[Path, str], ranked_folder: Path, personal_store: Path, tmp_path: Path
) -> None:
    file, _ = exported
    catalogue = personal_store / CATALOGUE
    said = aisle("import", file, "--format", "aisle", "--bundle", ranked_folder, "--out", tmp_path / "log")
    assert "no impressions" not in said
    assert (
        len(open_log(tmp_path / "log")) == len(open_log(file)) - NUM_SHOPPERS
    )  # what was of no product of the catalogue
    for log in (file, tmp_path / "log"):
        told = aisle("train", "all", "--check", "--catalogue", catalogue, "--events", log, "--out", tmp_path / "shop")
        assert "nobody knows what was shown" not in told


def test_a_forgotten_shopper_is_in_no_later_export(traffic: Traffic, ranked_folder: Path, tmp_path: Path) -> None:
    with AisleClient(traffic.service.address, timeout_s=30) as client:
        client.forget(shopper_pb2.ForgetShopperRequest(shopper_id="shopper 7"))
    file = tmp_path / "events.parquet"
    aisle("export-events", "--bundle", ranked_folder, "--config", traffic.config, "--out", file)
    assert len(open_log(file).shoppers) == NUM_SHOPPERS - 1
