"""`aisle upsert`, `delete`, `follow` and `catalogue status` against a real service that requires keys."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.bundles.bundle import Bundle
from serving.cli.client import connected
from serving.cli.main import app
from serving.cli.options import ServiceOptions
from serving.edge.keys import new_key

MANY = 4000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    scopes = {"all": ["*"], "search": ["search", "info"], "write": ["catalogue:write", "info"]}
    made = {name: new_key(name, granted) for name, granted in scopes.items()}
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(line for _, line in made.values()) + "\n")
    file.chmod(0o600)
    return {name: key for name, (key, _) in made.items()} | {"file": str(file)}


@pytest.fixture(scope="module")
def shop(bundle_folder: Path, keys: dict[str, str]) -> Iterator[Service]:
    patient = "[catalogue]\nmax_wait_ms = 30000\n"  # of a slow machine, where a killed gateway takes long to come back
    config = f'[auth]\nkeys_file = "{keys["file"]}"\n[shoppers]\nstore = "off"\n{patient}'
    with served(bundle_folder, config) as running:
        yield running
        assert running.process.poll() is None


def aisle(shop: Service, key: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--server", shop.address, "--api-key", key])


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_an_upserted_product_is_found_and_a_deleted_one_is_not(
    shop: Service, keys: dict[str, str], tmp_path: Path
) -> None:
    new = tmp_path / "new.jsonl"
    product = {"id": "quokka-1", "title": "Quokka hammock", "price": 129, "colour": "ultraviolet"}
    new.write_text(json.dumps(product))
    said = ok(aisle(shop, keys["all"], "upsert", new, "--attribute", "colour"))
    assert "1 changes accepted, visible" in said
    assert "Quokka hammock" in ok(aisle(shop, keys["all"], "search", "quokka hammock"))
    found = ok(aisle(shop, keys["all"], "search", "hammock", "--where", "colour=ultraviolet"))
    assert "1 hits in" in found
    assert "129.00" in found
    assert "1 changes accepted, visible" in ok(aisle(shop, keys["all"], "delete", "quokka-1"))
    assert "Quokka" not in ok(aisle(shop, keys["all"], "search", "quokka hammock"))
    status = ok(aisle(shop, keys["all"], "catalogue", "status"))
    assert "ends with change 2" in status
    assert "0 behind" in status


def test_a_key_needs_the_scopes(shop: Service, keys: dict[str, str], tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("id,title\nscoped,Scoped Lamp\n")
    for command in (("upsert", new), ("delete", "scoped"), ("follow", new, "--once")):
        result = aisle(shop, keys["search"], *command)
        assert result.exit_code == 1
        assert "PERMISSION_DENIED" in result.output
        assert "catalogue:" in result.output
    assert aisle(shop, keys["write"], "catalogue", "status").exit_code == 1
    ok(aisle(shop, keys["write"], "upsert", new))
    ok(aisle(shop, keys["write"], "delete", "scoped"))
    without = CliRunner().invoke(app, ["delete", "scoped", "--server", shop.address])
    assert "set --api-key or AISLE_API_KEY" in without.output


def rows_of(bundle: Bundle) -> list[dict[str, object]]:
    """Returns the bundle's catalogue as a shop would export it."""
    return [
        {
            "id": product.id,
            "title": product.title,
            "brand": product.brand,
            "category": "|".join((product.category, *product.other_categories)),
            "price": None if product.price_minor is None else product.price_minor / 100,
            "in_stock": product.in_stock,
            **{name: product.attributes.get(name) for name in bundle.attributes()},
        }
        for product in bundle.products().products()
    ]


def test_a_feed_of_the_catalogue_sends_what_changes(
    shop: Service, keys: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "feed.parquet"
    columns = [word for name in bundle.attributes() for word in ("--attribute", name)]
    rows = rows_of(bundle)

    def follow() -> Result:
        pq.write_table(pa.Table.from_pylist(rows), path.with_name("new"))
        path.with_name("new").replace(path)
        return aisle(shop, keys["all"], "follow", path, "--once", *columns)

    assert "0 new, 0 changed, 0 with another price or stock, 0 gone, 1,000 as before" in ok(follow())
    rows[3]["title"] = "Quokka lamp"
    rows[4]["price"] = 0.01
    rows[5]["in_stock"] = not rows[5]["in_stock"]
    del rows[-20:]
    assert "0 new, 1 changed, 2 with another price or stock, 20 gone, 977 as before" in ok(follow())
    assert "Quokka lamp" in ok(aisle(shop, keys["all"], "search", "quokka lamp"))
    assert "1 hits in" in ok(aisle(shop, keys["all"], "search", "", "--max-price", "1"))
    assert "products          980" in ok(aisle(shop, keys["all"], "catalogue", "status"))
    rows += rows_of(bundle)[-20:]
    assert "20 new, 0 changed, 0 with another price or stock, 0 gone, 980 as before" in ok(follow())
    del rows[300:]
    refused = follow()
    assert refused.exit_code == 1
    assert "lacks 700 of the 1,000 products" in refused.output


def last_change(shop: Service, key: str) -> int:
    """Returns the sequence of the latest change."""
    with connected(ServiceOptions(server=shop.address, api_key=key)) as connection:
        stub = catalogue_pb2_grpc.CatalogueServiceStub(connection.channel)
        status = connection.call(stub.GetCatalogueStatus, catalogue_pb2.GetCatalogueStatusRequest())
        return int(status.logged_sequence)


def test_an_upsert_outlives_the_death_of_the_gateway(shop: Service, keys: dict[str, str], tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("id,title\n" + "".join(f"many-{n},Quagga rug {n}\n" for n in range(MANY)))
    before = last_change(shop, keys["all"])
    done: list[Result] = []
    command = threading.Thread(target=lambda: done.append(aisle(shop, keys["write"], "upsert", new)))
    command.start()
    while last_change(shop, keys["all"]) == before:
        time.sleep(0.01)
    assert command.is_alive()
    for pid in shop.gateways():
        os.kill(pid, signal.SIGKILL)
    command.join(120)
    assert f"{MANY:,} changes accepted, visible" in ok(done[0])
    assert f"products          {1000 + MANY:,}" in ok(aisle(shop, keys["all"], "catalogue", "status"))
    assert f"Quagga rug {MANY - 1}" in ok(aisle(shop, keys["all"], "search", f"quagga rug {MANY - 1}"))
