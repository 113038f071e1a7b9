"""The commands that change a catalogue: what they send, what they say, and how they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from typer.testing import CliRunner

from serving.cli import send_changes
from serving.cli.main import app
from tests.fake_shop import Failure, Shop, serving

AWAY = Failure(grpc.StatusCode.UNAVAILABLE)
ROWS = "id,title,price,in_stock,colour,materials\nsofa,Velvet Sofa,499.00,yes,red,oak|linen\nlamp,Lamp,19.00,no,,\n"
COLUMNS = ("--attribute", "colour", "--attribute", "materials", "--currency", "EUR")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def address(shop: Shop) -> Iterator[str]:
    with serving(shop) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(ROWS)
    return path


def run(address: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--server", address])


def test_a_file_is_sent_with_the_columns_of_build(shop: Shop, address: str, new: Path) -> None:
    result = run(address, "upsert", new, *COLUMNS)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "2 changes accepted, visible; sequence 2")
    sofa, lamp = shop.products["sofa"], shop.products["lamp"]
    assert (sofa.title, sofa.price_minor, sofa.in_stock) == ("Velvet Sofa", 49_900, True)
    assert dict(sofa.attributes) == {"colour": "red", "materials": "oak|linen"}
    assert (lamp.price_minor, lamp.in_stock, dict(lamp.attributes)) == (1_900, False, {})
    assert "note" not in result.output


def test_the_items_of_a_list_are_separated_where_the_service_holds_several(
    shop: Shop, address: str, tmp_path: Path
) -> None:
    path = tmp_path / "new.jsonl"
    row = {"id": "a", "title": "A", "colour": ["red", "blue"], "materials": ["oak", "linen"], "tags": ["x", "y"]}
    path.write_text(json.dumps(row))
    result = run(address, "upsert", path, *COLUMNS, "--attribute", "tags")
    assert dict(shop.products["a"].attributes) == {"colour": "red, blue", "materials": "oak|linen", "tags": "x|y"}
    assert "note: the service has no attributes tags: they are returned, but filter nothing" in result.output


def test_attributes_that_would_be_lost_are_named(address: str, new: Path) -> None:
    result = run(address, "upsert", new, "--currency", "EUR")
    said = "note: the file states no attributes colour, materials: products that it replaces lose them"
    assert said in result.output


def test_another_currency_is_refused(shop: Shop, address: str, new: Path) -> None:
    result = run(address, "upsert", new)
    assert result.exit_code == 1
    assert "error: the service's prices are in EUR, not USD; set --currency EUR" in result.output
    assert shop.calls == []


def test_a_file_that_lost_too_many_rows_is_not_sent(shop: Shop, address: str, new: Path) -> None:
    new.write_text(ROWS + ",no id,1\n")
    result = run(address, "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert "1 of 3 rows are lost" in result.output
    assert shop.calls == []
    result = run(address, "upsert", new, *COLUMNS, "--max-lost", "0.5")
    assert result.exit_code == 0
    assert "skipped 1 rows" in result.output
    assert len(shop.products) == 2


def test_refused_products_are_named_and_end_with_1(shop: Shop, address: str, new: Path) -> None:
    shop.refused = {"lamp"}
    result = run(address, "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert result.output.splitlines()[-3:] == [
        "1 changes accepted, visible; sequence 1",
        "refused lamp: title is refused",
        "1 refused",
    ]


def test_a_product_that_no_call_can_hold_is_refused_alone(shop: Shop, address: str, new: Path) -> None:
    new.write_text(ROWS + f"big,{'x' * 1_000},1,yes,{'y' * 19_000},\n")
    result = run(address, "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert "refused big: has 20,0" in result.output
    assert sorted(shop.products) == ["lamp", "sofa"]


def test_calls_are_bounded(shop: Shop, address: str, new: Path) -> None:
    new.write_text("id,title,colour,materials\n" + "".join(f"p{n},Title,{'x' * 3_000},\n" for n in range(12)))
    assert run(address, "upsert", new, *COLUMNS).exit_code == 0
    assert [len(ids) for _, ids in shop.calls] == [3, 2, 3, 2, 2]  # 5 changes, 10,000 bytes


def test_delete_says_how_many(shop: Shop, address: str, new: Path) -> None:
    run(address, "upsert", new, *COLUMNS)
    result = run(address, "delete", "lamp", "nobody", "lamp")
    assert (result.exit_code, result.output) == (0, "2 changes accepted, visible; sequence 4\n")
    assert list(shop.products) == ["sofa"]
    assert shop.called("DeleteProducts") == ["lamp", "nobody"]


def test_a_service_that_is_busy_is_asked_again_after_its_delay(shop: Shop, address: str, new: Path) -> None:
    shop.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 0.5)]
    started = time.monotonic()
    assert run(address, "upsert", new, *COLUMNS).exit_code == 0
    assert time.monotonic() - started >= 0.5
    assert len(shop.products) == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Failure(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"), "error: PERMISSION_DENIED: as told"),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"), "error: RESOURCE_EXHAUSTED: as told"),
        (Failure(grpc.StatusCode.UNIMPLEMENTED, "CATALOGUE_FIXED"), "error: UNIMPLEMENTED: as told"),
    ],
    ids=lambda value: value.reason if isinstance(value, Failure) else "",
)
def test_what_does_not_pass_ends_the_command_at_once(
    shop: Shop, address: str, new: Path, failure: Failure, said: str
) -> None:
    shop.failures = [failure]
    result = run(address, "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert said in result.output
    assert shop.calls == []


def test_a_service_that_restarts_in_the_middle_is_waited_for(shop: Shop, new: Path) -> None:
    new.write_text("id,title\n" + "".join(f"p{n},Title\n" for n in range(40)))
    with serving(shop) as port:
        shop.failures = [None, None, *([AWAY] * 10_000)]
        done: list[Result] = []
        command = threading.Thread(target=lambda: done.append(run(f"127.0.0.1:{port}", "upsert", new, *COLUMNS[-2:])))
        command.start()
        while len(shop.failures) > 9_994:
            time.sleep(0.05)
    shop.failures = []
    with serving(shop, port):
        command.join(30)
    (result,) = done
    assert result.exit_code == 0, result.output
    assert "waiting: UNAVAILABLE" in result.output
    assert len(shop.products) == 40


def test_a_service_that_stays_away_ends_the_command(
    shop: Shop, address: str, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_changes, "PATIENCE_S", 1.0)
    shop.failures = [AWAY] * 10_000
    result = run(address, "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert "error: UNAVAILABLE: as told" in result.output


def test_a_service_that_is_not_there_ends_the_command_with_a_hint(new: Path) -> None:
    result = run("127.0.0.1:1", "upsert", new, *COLUMNS)
    assert result.exit_code == 1
    assert "is there a service on 127.0.0.1:1?" in result.output
