"""A feed that a service follows: what of it is sent, and what its state holds after whatever happens."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from models.arrays import silent
from models.bundles.source import Source
from models.bundles.sources import catalogue_source
from models.products.product import Product
from serving.cli import feed as feed_module
from serving.cli.client import Connection
from serving.cli.feed import Feed, FeedError, locked, signature
from serving.cli.main import app
from serving.cli.send_changes import ChangeSender
from tests.damages import DAMAGES
from tests.fake_shop import Failure, Shop, serving

LOST = Failure(grpc.StatusCode.INTERNAL)
COLUMNS = ("--attribute", "colour", "--currency", "EUR")


@dataclass(frozen=True)
class Row:
    id: str
    title: str = "Lamp"
    price: float = 9.5
    in_stock: str = "yes"
    colour: str = "red"


def rows(count: int) -> list[Row]:
    return [Row(f"p{n:02}") for n in range(count)]


def write(path: Path, products: list[Row]) -> None:
    lines = [
        "id,title,price,in_stock,colour",
        *(f"{r.id},{r.title},{r.price},{r.in_stock},{r.colour}" for r in products),
    ]
    path.with_suffix(".new").write_text("\n".join(lines) + "\n")
    path.with_suffix(".new").replace(path)


def held(shop: Shop) -> list[Row]:
    """Returns what the shop has, as rows of the feed."""
    return [
        Row(p.id, p.title, p.price_minor / 100, "yes" if p.in_stock else "no", p.attributes["colour"])
        for _, p in sorted(shop.products.items())
    ]


@pytest.fixture(autouse=True)
def _settles_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SETTLED_S", 0.01)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop) -> Iterator[str]:
    with serving(shop) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feed.csv"


def follow(address: str, path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["follow", str(path), "--once", *COLUMNS, "--server", address, *arguments])


def counts(result: Result) -> tuple[int, ...]:
    """Returns how many products were new, changed, of another price or stock, gone and unchanged."""
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if " as before" in line)
    return tuple(int(word) for word in line.split() if word.isdigit())


def test_only_what_changed_is_sent(shop: Shop, address: str, path: Path) -> None:
    products = rows(12)
    write(path, products)
    assert counts(follow(address, path)) == (12, 0, 0, 0, 0)
    assert held(shop) == products
    shop.calls.clear()
    assert counts(follow(address, path)) == (0, 0, 0, 0, 12)
    assert [method for method, _ in shop.calls] == ["GetCatalogueStatus"]

    products[1] = replace(products[1], title="Large Lamp")
    products[2] = replace(products[2], price=4.0)
    products[3] = replace(products[3], in_stock="no")
    del products[4]
    products.append(Row("p99"))
    write(path, products)
    shop.calls.clear()
    assert counts(follow(address, path)) == (1, 1, 2, 1, 8)
    assert held(shop) == products
    assert shop.called("UpsertProducts") == ["p01", "p99"]
    assert shop.called("UpdateOffers") == ["p02", "p03"]
    assert shop.called("DeleteProducts") == ["p04"]


def test_a_price_that_goes_is_an_offer_too(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(2))
    follow(address, path)
    path.write_text(path.read_text().replace("p01,Lamp,9.5", "p01,Lamp,"))
    assert counts(follow(address, path)) == (0, 0, 1, 0, 1)
    assert not shop.products["p01"].HasField("price_minor")


def test_what_the_service_has_already_is_not_sent_the_first_time(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(12))
    follow(address, path)
    shop.products["beyond"] = shop.products["p01"]
    shop.products["p03"].title = "Another"
    path.with_name("feed.csv.followed").unlink()
    shop.calls.clear()
    assert counts(follow(address, path)) == (1, 0, 0, 0, 11)
    assert shop.called("UpsertProducts") == ["p03"]
    assert shop.called("DeleteProducts") == []
    assert "beyond" in shop.products


def test_a_feed_that_lost_a_third_is_refused(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(20))
    follow(address, path)
    write(path, [replace(row, title="New") for row in rows(14)])
    shop.calls.clear()
    result = follow(address, path)
    assert result.exit_code == 1
    assert "lacks 6 of the 20 products that it had, such as 'p14'" in result.output
    assert [method for method, _ in shop.calls] == ["GetCatalogueStatus"]
    assert counts(follow(address, path, "--max-lost", "0.3")) == (0, 14, 0, 6, 0)
    assert len(shop.products) == 14


def test_refused_products_are_sent_again_the_next_time(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(12))
    shop.refused = {"p03", "p07"}
    result = follow(address, path)
    assert result.exit_code == 1
    assert "refused p03: title is refused" in result.output
    shop.refused = set()
    assert counts(follow(address, path)) == (2, 0, 0, 0, 10)
    assert len(shop.products) == 12


def test_an_answer_that_does_not_name_all_refusals_is_not_believed(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(5))
    shop.refused, shop.names_refusals = {"p03", "p04"}, False
    assert follow(address, path).exit_code == 1
    shop.refused = set()
    assert counts(follow(address, path)) == (2, 0, 0, 0, 3)
    assert len(shop.products) == 5


def test_an_offer_for_a_product_that_the_service_lost_sends_it_whole(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(3))
    follow(address, path)
    del shop.products["p01"]
    write(path, [replace(row, price=1.0) for row in rows(3)])
    assert counts(follow(address, path)) == (0, 0, 3, 0, 0)
    assert held(shop) == [replace(row, price=1.0) for row in rows(3)]


def test_a_service_that_was_restored_from_before_is_compared(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(12))
    follow(address, path)
    shop.sequence = 7
    for product_id in ("p07", "p08"):
        del shop.products[product_id]
    assert counts(follow(address, path)) == (2, 0, 0, 0, 10)
    assert held(shop) == rows(12)
    assert counts(follow(address, path)) == (0, 0, 0, 0, 12)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_run_that_fails_in_the_middle_goes_on_where_it_stopped(shop: Shop, address: str, path: Path, at: int) -> None:
    write(path, rows(20))
    follow(address, path)
    products = [
        *(replace(row, title="New") for row in rows(8)),
        *(replace(row, price=1.0) for row in rows(17)[8:]),
        Row("p98"),
        Row("p99"),
    ]
    write(path, products)
    shop.failures = [*([None] * at), LOST]
    shop.calls.clear()
    first = follow(address, path)
    done = [product_id for method, ids in shop.calls for product_id in ids if method != "GetProducts"]
    shop.failures = []
    shop.calls.clear()
    assert follow(address, path).exit_code == 0, first.output
    again = [product_id for method, ids in shop.calls for product_id in ids if method != "GetProducts"]
    assert sorted(done + again) == sorted({row.id for row in [*products, *rows(20)]})
    assert held(shop) == products


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(shop: Shop, address: str, path: Path) -> None:
    random.seed(1)
    command = [sys.executable, "-m", "serving.cli", "follow", str(path), "--every", "0.1", *COLUMNS]
    for version in range(4):
        products = [replace(row, title=f"Lamp {(version + n) % 3}") for n, row in enumerate(rows(300)[version:])]
        write(path, products)
        num_calls = len(shop.calls)
        with subprocess.Popen([*command, "--server", address], stderr=subprocess.DEVNULL) as process:
            give_up = time.monotonic() + 60
            while len(shop.calls) < num_calls + random.randint(2, 50) and time.monotonic() < give_up:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    assert follow(address, path).exit_code == 0
    assert held(shop) == sorted(products, key=lambda row: row.id)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "deleted"])
@pytest.mark.parametrize("at", range(5))
def test_a_damaged_state_is_refused_or_does_no_harm(shop: Shop, address: str, path: Path, damage: str, at: int) -> None:
    write(path, rows(30))
    follow(address, path)
    state = path.with_name("feed.csv.followed")
    content = bytearray(state.read_bytes())
    if damage == "a bit":
        content[len(content) * (2 * at + 1) // 10] ^= 1
        state.write_bytes(content)
    else:
        state.write_bytes(content[: len(content) * at // 5])
    products = [replace(row, title="New") for row in rows(30)[1:]]
    write(path, products)
    result = follow(address, path)
    if result.exit_code:
        assert "delete it to compare the feed with the service anew" in result.output
        state.unlink()
        assert follow(address, path).exit_code == 0
        assert [row for row in held(shop) if row.id != "p00"] == products
    else:
        assert [row for row in held(shop) if row.id != "p00"] == products


@pytest.mark.parametrize("content", [b"", b"id,title\n", b"ARROW1\0\0"], ids=["empty", "text", "a beginning"])
def test_what_is_no_state_is_refused(shop: Shop, address: str, path: Path, content: bytes) -> None:
    write(path, rows(2))
    path.with_name("feed.csv.followed").write_bytes(content)
    result = follow(address, path)
    assert result.exit_code == 1
    assert "is not the state of a feed" in result.output
    assert shop.calls == []


def test_a_state_is_of_one_service(shop: Shop, address: str, path: Path) -> None:
    write(path, rows(2))
    follow(address, path)
    with serving(Shop()) as port:
        result = follow(f"127.0.0.1:{port}", path)
    assert result.exit_code == 1
    assert f"tells what {address} has" in result.output


def test_two_do_not_follow_with_one_state(address: str, path: Path) -> None:
    write(path, rows(2))
    with locked(path.with_name("feed.csv.followed")):
        result = follow(address, path)
    assert result.exit_code == 1
    assert "another 'aisle follow' works with" in result.output


def source_of(path: Path, while_read: Callable[[int], None] = lambda _: None) -> Source:
    source = catalogue_source(path, {}, (), ("colour",), "EUR")
    passes = iter(range(100))

    def products() -> Iterator[Product]:
        which = next(passes)
        yield from source.products()
        while_read(which)

    return replace(source, products=products)


@pytest.mark.parametrize("at", [0, 1], ids=["compared", "sent"])
def test_a_feed_that_is_written_while_it_is_read_deletes_nothing(shop: Shop, address: str, path: Path, at: int) -> None:
    write(path, rows(12))
    follow(address, path)
    write(path, rows(11))
    with grpc.insecure_channel(address) as channel:
        feed = Feed(path, path.with_name("feed.csv.followed"), address, 0.2)
        seen = feed.settled()
        source = source_of(path, lambda which: write(path, rows(13)) if which == at else None)
        with pytest.raises(FeedError, match="was written while it was read; nothing was deleted"):
            feed.send(source, seen, ChangeSender(Connection(channel, ())), silent)
    assert shop.called("DeleteProducts") == []
    assert follow(address, path).exit_code == 0
    assert held(shop) == rows(13)


def test_a_feed_that_is_written_all_the_time_is_not_read(
    address: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, rows(2))
    feed = Feed(path, path.with_name("feed.csv.followed"), address, 0.2)

    def write_more(_: float) -> None:
        with path.open("a") as file:
            file.write("x\n")

    monkeypatch.setattr("serving.cli.feed.time.sleep", write_more)
    with pytest.raises(FeedError, match="is being written to all the time"):
        feed.settled()


def test_a_folder_of_parquet_is_a_feed(shop: Shop, address: str, tmp_path: Path) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()

    def add(name: str, products: list[Row]) -> None:
        pq.write_table(pa.Table.from_pylist([vars(row) for row in products]), folder / name)

    add("a.parquet", rows(6)[:3])
    add("b.parquet", rows(6)[3:])
    (folder / "c.parquet.tmp").write_text("in the making")
    assert counts(follow(address, folder)) == (6, 0, 0, 0, 0)
    seen = signature(folder)
    (folder / "c.parquet.tmp").write_text("in the making still")
    assert signature(folder) == seen
    add("b.parquet", [*rows(8)[3:]])
    assert counts(follow(address, folder)) == (2, 0, 0, 0, 6)
    assert held(shop) == rows(8)
    assert (tmp_path / "feed.followed").is_file()


def test_a_feed_that_is_not_there_ends_once(address: str, path: Path) -> None:
    result = follow(address, path)
    assert result.exit_code == 1
    assert f"error: there is no {path}" in result.output


def test_following_goes_on_through_whatever_passes(shop: Shop, path: Path) -> None:
    """A feed that is not there yet, then there, then refused, and a service that is away."""
    command = [sys.executable, "-m", "serving.cli", "follow", str(path), "--every", "0.1", *COLUMNS]
    output = path.with_name("output")

    def said(line: str) -> bool:
        return line in output.read_text()

    with output.open("w") as file, serving(shop) as port:
        process = subprocess.Popen([*command, "--server", f"127.0.0.1:{port}"], stdout=file, stderr=file)
        wait_for(lambda: said("not sent: there is no"))
        write(path, rows(10))
        wait_for(lambda: len(shop.products) == 10)
        write(path, rows(3))
        wait_for(lambda: said("lacks 7 of the 10"))
    write(path, rows(11))
    try:
        wait_for(lambda: said("not sent: UNAVAILABLE"))
        assert len(shop.products) == 10
        with serving(shop, port):
            wait_for(lambda: len(shop.products) == 11)
            write(path, rows(12))
            wait_for(lambda: len(shop.products) == 12)
    finally:
        process.terminate()
        process.wait()
    for line in ("there is no", "lacks 7 of the 10", "not sent: UNAVAILABLE", "note: the file states no attributes"):
        assert output.read_text().count(line) == 1


def wait_for(reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < give_up
        time.sleep(0.05)
