"""A plan holds what was asked for, grows with it, and says of every figure where it comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from models.bundles.bundle import Bundle
from serving.capacity import known
from serving.capacity.bundle_bytes import ENCODER_SPARE, SAMPLE, BundleBytes
from serving.capacity.figure import Figures
from serving.capacity.plan import MAX_SHARDS, Plan, PlanError, Wish, plan
from serving.capacity.reports import ReportError, read_report
from serving.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
GIB = 1024**3
BILLION = 1_000_000_000


def planned(products: int, qps: float = 100, p99_ms: float = 5000, **others: Any) -> Plan:
    machine = {"cores": 16, "memory_bytes": 64 * GIB, "gpus": False, "gpu_memory_bytes": 80 * GIB}
    wish = Wish(products=products, qps=qps, p99_ms=p99_ms, **(machine | others))
    return plan(wish, SAMPLE, Figures(known.KNOWN))


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)], env={"COLUMNS": "300"})


@given(st.integers(1, BILLION), st.integers(1, BILLION), st.floats(0.1, 10_000), st.booleans())
@example(20_393, 32_259, 1.0, False)
def test_more_products_never_need_less(one: int, other: int, qps: float, gpus: bool) -> None:
    few, many = (planned(products, qps, 60_000, gpus=gpus) for products in sorted((one, other)))
    assert few.bundle_bytes <= many.bundle_bytes
    assert few.gateway_bytes <= many.gateway_bytes + 768 * 131_072  # of a copy that small catalogues alone have
    assert few.shards <= many.shards
    assert few.build_s <= many.build_s
    if few.index == many.index:  # where lists take the place of an exact search, they are faster
        assert few.search_ms <= many.search_ms


@given(st.floats(0.1, 100_000), st.floats(0.1, 100_000))
def test_more_searches_need_more_machines_that_are_as_busy(one: float, other: float) -> None:
    slow, fast = (planned(1_000_000, qps) for qps in sorted((one, other)))
    assert slow.num_machines <= fast.num_machines
    assert slow.used == fast.used
    work = fast.search_ms * max(one, other) / 1000
    (machines,) = fast.machines
    spare = 1
    assert (machines.count - spare) * machines.cores * fast.used >= work * (1 - 1e-9)
    assert machines.count >= 2


@given(st.integers(1, BILLION), st.floats(1, 60_000))
def test_a_plan_keeps_the_p99_or_there_is_none(products: int, p99_ms: float) -> None:
    try:
        found = planned(products, p99_ms=p99_ms)
    except PlanError as error:
        (least,) = re.findall(rf"--p99 {p99_ms:g} cannot be planned for: (\d+) ms is the least", str(error))
        assert float(least) >= p99_ms - 0.5
        return
    assert found.p99_ms <= p99_ms * (1 + 1e-9)
    assert 0 < found.used <= 0.6
    assert 1 <= found.shards <= MAX_SHARDS


def test_shards_come_when_a_machine_is_too_small() -> None:
    large, small = planned(50_000_000, memory_bytes=1024 * GIB), planned(50_000_000, memory_bytes=48 * GIB)
    assert (large.shards, large.machines[0].role) == (1, "service")
    assert small.shards > 1
    gateways, shard = small.machines
    assert shard.total == shard.count * small.shards
    assert shard.bytes <= 48 * GIB < large.machines[0].bytes
    assert any("gateways" in warning and "--machine-memory-gib 48" in warning for warning in small.warnings) == (
        gateways.bytes > 48 * GIB
    )


def test_a_billion_products_have_a_plan() -> None:
    found = planned(BILLION, 1000, 5000, memory_bytes=256 * GIB)
    assert found.index == "ivf"
    assert found.bundle_bytes > 1000 * BILLION
    assert any("extrapolated" in warning for warning in found.warnings)
    by_gpu = planned(BILLION, 1000, 5000, memory_bytes=256 * GIB, gpus=True)
    (shard,) = [machines for machines in by_gpu.machines if machines.gpus]
    assert shard.gpus * shard.shards * 0.8 * 80 * GIB >= 2 * 384 * BILLION  # all vectors are in the memory of GPUs


def test_the_index_is_the_one_that_a_build_would_choose() -> None:
    assert [planned(products).index for products in (5_000, 20_000, 1_000_000)] == ["exact", "exact", "ivf"]


def test_what_is_said_to_be_measured_is_on_the_page_that_is_named() -> None:
    page = re.sub(r"\s+", " ", (ROOT / known.PAGE).read_text())
    quoted = {
        known.TEXT_MS: "253 / 304 queries/s",
        known.UNIFIED_MS: "352 / 395 queries/s",
        known.BASE_PRODUCTS: "20,000 simulated products",
        known.REST_MS: "(2.9 ms as built)",
        known.EXACT_MS: "| 62 ms, 1, 768 |",
        known.LISTS_MS: "0.76 ms, 0.985",
        known.LISTS_BYTES: "0.915), 878 |",
        known.P99_60: "at 60 % of 650 searches/s (**C**) | 0 of 48,083; p99 164 ms, 33 ms without an update",
        known.P99_90: "p99 285 and 70 ms",
        known.P99_MS: "650 searches/s (**C**)",
        known.USED: "and 344 refused",
        known.HANDLE_MS: "4 to 6 ms a handle call",
        known.ENCODE_MS: "8 bits / floats (**C**, one run each way, twice) | 22 / 46 s",
        known.BUILD_MS: "| 47 s; 295 s",
        known.START_S: "10 to 15 s",
        known.GPU_BATCH_MS: "1.0 / 1.5 / 3.5 ms",
        known.GPU_ENCODE_MS: "19,855 queries/s",
        known.SERVICE_BYTES: "| a service without its gateways | 750 MiB",
        known.SHARED_BYTES: "| a gateway: libraries that all of a machine share | 160 MiB",
        known.GATEWAY_BYTES: "| ... its own, without networks and products | 235 MiB",
        known.NETWORK_RATIO: "1.4 to 1.5 times its files",
        known.UNIFIED_RATIO: "1.8 to 2.3 times its files",
        known.PRODUCT_BYTES: "| ... its own, for a product, from 20,000 to 200,000 of them | 60 to 130 bytes",
        known.READ_S: "0.4 s for 133 MB more",
    }
    measured = {figure.name: figure for figure in known.KNOWN if figure.origin == "measured"}
    assert quoted.keys() == measured.keys()
    for name, words in quoted.items():
        assert measured[name].source.startswith(known.PAGE), name
        assert words in page, name


def test_a_bundles_bytes_are_those_of_its_files(shop_bundle: Path) -> None:
    manifest = Bundle(shop_bundle).manifest
    sizes = BundleBytes.of(manifest, "a test")
    spare = sum(record.bytes for name, record in manifest.files.items() if name.startswith(ENCODER_SPARE))
    total = sum(record.bytes for record in manifest.files.values())
    assert sum(sizes.by_product.values()) * manifest.products + sizes.networks + spare == pytest.approx(total)
    assert sizes.by_product["vectors"] == pytest.approx(
        (shop_bundle / "vectors.npy").stat().st_size / manifest.products
    )
    assert (sizes.is_unified, sizes.has_lists, sizes.columns) == (False, False, 32)
    assert sizes.of_vectors(64).by_product["vectors"] == 128


def test_the_command_tells_of_each_figure_where_it_comes_from(shop_bundle: Path) -> None:
    said = ask("--products", 6, "--qps", 10, "--bundle", shop_bundle, "--json")
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)["plan"]["figures"]
    assert all(figure["source"] and figure["origin"] in ("measured", "extrapolated", "assumed") for figure in figures)
    of_files = {figure["origin"] for figure in figures if "the files of" in figure["source"]}
    assert of_files == {"measured"}
    larger = json.loads(ask("--products", 7, "--qps", 10, "--bundle", shop_bundle, "--json").stdout)
    assert {f["origin"] for f in larger["plan"]["figures"] if "the files of" in f["source"]} == {"extrapolated"}
    table = ask("--products", 3_000_000, "--qps", 10, "--p99", 1000)
    assert table.exit_code == 0, table.output
    for words in ("machines", "extrapolated", "assumed", "docs/benchmarks.md"):
        assert words in table.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--products", 2 * BILLION, "--qps", 1), ("--products", "1000000000")),
        (("--products", 0, "--qps", 1), ("--products", "1")),
        (("--products", 1, "--qps", 0), ("--qps", "0.1")),
        (("--products", 1, "--qps", 1, "--dims", 5000), ("--dims", "4096")),
        (("--products", 1, "--qps", 1, "--p99", 1), ("--p99 1 cannot be planned for", "ms is the least")),
        (("--products", 1, "--qps", 1, "--bundle", "/no/such"), ("/no/such is not a bundle",)),
        (("--products", 1, "--qps", 1, "--measured", "/no/such"), ("--measured", "there is no file /no/such")),
    ],
)
def test_what_cannot_be_planned_names_the_option_and_its_limit(arguments: tuple[object, ...], says: tuple[str]) -> None:
    refused = ask(*arguments)
    assert refused.exit_code != 0
    assert all(words in refused.output for words in says), refused.output
    assert "Traceback" not in refused.output


MACHINE = {"processor": "EPYC", "cores": 8}
LOAD: dict[str, Any] = {
    "kind": "aisle load",
    "format": 1,
    "verdict": {"void": ""},
    "environment": {"machine": MACHINE, "products": 50_000},
    "stages": [{"goodput": 100.0}, {"goodput": 400.0}],
    "processes": [
        {"gateway": {"cores": 1.0, "rss": 1.0}},
        {"gateway": {"cores": 1.5, "rss": 1}, "edge": {"cores": 0.5, "rss": 1}},
    ],
}
BENCH = {
    "machine": MACHINE,
    "figures": [
        {"benchmark": "search", "name": "personal: throughput, Search, 32 clients", "median": 1000.0},
        {"benchmark": "search", "name": "personal: throughput, Search, 64 clients", "median": 2000.0},
        {"benchmark": "search", "name": "personal: throughput, Search / floor, 64 clients", "median": 0.9},
        {"benchmark": "index", "name": "1,000k: exact, p50", "median": 30.0},
    ],
}


def test_figures_of_your_machines_take_the_place_of_ours(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(LOAD))
    found = {figure.name: figure.value for figure in read_report(report)}
    assert found == {known.TEXT_MS: 5.0, known.UNIFIED_MS: 5.0, known.BASE_PRODUCTS: 50_000}
    ours = json.loads(ask("--products", 50_000, "--qps", 10, "--json").stdout)["plan"]
    yours = json.loads(ask("--products", 50_000, "--qps", 10, "--measured", report, "--json").stdout)["plan"]
    assert yours["search_ms"] == pytest.approx(5.0)
    assert ours["search_ms"] > 6.6
    (told,) = [figure for figure in yours["figures"] if figure["name"] == known.TEXT_MS]
    assert told["source"] == f"{report}: 2.00 cores for 400 calls/s on EPYC, 8 cores"

    report.write_text(json.dumps(BENCH))
    assert {figure.name: figure.value for figure in read_report(report)} == {
        known.UNIFIED_MS: 4.0,
        known.EXACT_MS: 30.0,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1", "cannot be read as JSON"),
        ("{}", "is no report of 'aisle load'"),
        (json.dumps(LOAD | {"verdict": {"void": "the generator was at fault"}}), "is void: the generator was at fault"),
        (json.dumps(LOAD | {"stages": [{}]}), "is not as 'aisle load' or 'aisle bench' write it"),
        (json.dumps(LOAD | {"processes": [{}, {}]}), "has no figure that a plan reads"),
        (json.dumps(BENCH | {"figures": []}), "has no figure that a plan reads"),
    ],
)
def test_a_report_that_says_nothing_is_refused(tmp_path: Path, content: str, says: str) -> None:
    report = tmp_path / "report.json"
    report.write_text(content)
    with pytest.raises(ReportError, match=re.escape(f"--measured {report}")) as error:
        read_report(report)
    assert says in str(error.value)
