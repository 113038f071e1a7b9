"""From a bundle and a log to a ranker: shoppers keep to their brand, and the ranker puts it first for them and for no one else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.bundles.source import Source
from models.evaluation.compare_bundles import known_pages
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA
from models.products.product_table import ProductTable
from models.ranking.add_to_bundle import add_ranker
from models.ranking.click_memory import CatalogueClicks
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures
from models.ranking.ranker import Ranker, blend
from models.ranking.recipe import RankerRecipe
from models.ranking.train_ranker import TrainedRanker, train_ranker, training_impressions
from models.ranking.unshown_pages import unshown_pages
from models.unified.bundle_part import UNIFIED_PART
from models.unified.embed_products import UnifiedEmbedding
from models.unified.history import HistoryItem, HistoryKind
from models.unified.light_tower import LightTower
from models.unified.recipe import UnifiedRecipe

# Without pages of what was not shown: of a shop this small a search finds everything, and what was not shown is as much liked.
TINY = RankerRecipe(
    "tiny", experts=2, expert_dim=16, tower_dim=8, learning_rate=5e-3, epochs=30, batch_pages=32, found_pages=0
)
BRANDS = ("Halden", "Nord", "Glanz", "Orro")
KINDS = ("sofa", "rug", "lamp")
OF_EACH = 4


def planted_events(num_searches: int, *, shuffled: bool = False, favourites: bool = False, seed: int = 0) -> pa.Table:
    """Shoppers see eight products of the requested kind, of any brand, and buy those of their own brand; or each kind's favourites, which
    are the last copy of every brand."""
    random = np.random.default_rng(seed)
    of_kind = len(BRANDS) * OF_EACH
    rows = []
    for search in range(num_searches):
        shopper, kind = int(random.integers(40)), int(random.integers(len(KINDS)))
        shown = kind * of_kind + random.choice(of_kind, 8, replace=False)
        liked = random.integers(len(BRANDS)) if shuffled else shopper % len(BRANDS)
        for place, number in enumerate(shown.tolist()):
            is_liked = number % OF_EACH == OF_EACH - 1 if favourites else number % of_kind // OF_EACH == liked
            follows = ("click", "cart", "purchase")[: int(random.integers(1, 4)) if is_liked else 0]
            for at, kind_of_event in enumerate(("impression", *follows)):
                rows.append(
                    {
                        "id": f"{search}-{place}-{at}",
                        "time": search * 100_000 + at * 1000,
                        "shopper_id": f"shopper {shopper}",
                        "session_id": f"session {search}",
                        "locale": "en-US",
                        "kind": kind_of_event,
                        "product_id": f"P-{number:03}",
                        "query": KINDS[kind],
                        "position": place + 1,
                        "price_minor": 1000,
                    }
                )
    return pa.Table.from_pylist(rows, EVENT_SCHEMA)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    pq.write_table(planted_events(900), path)
    return path


@pytest.fixture(scope="module")
def bundle(
    events: Path,
    make_source: Callable[..., Source],
    tiny_recipe: UnifiedRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    from models.products.product import Product

    products = [
        Product(f"P-{at:03}", f"{kind} {copy}", brand, f"Home > {kind}", 1000 + at)
        for at, (kind, brand, copy) in enumerate((k, b, c) for k in KINDS for b in BRANDS for c in range(OF_EACH))
    ]
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    embedding = UnifiedEmbedding((events,), replace(tiny_recipe, epochs=2, train_share=0.4))
    source = make_source(products, text=())
    build_bundle(source, Recipe(name="planted", locales=("en-US",)), folder, lambda *_: None, embedding=embedding)
    return Bundle(folder)


@pytest.fixture(scope="module")
def trained(bundle: Bundle, events: Path) -> TrainedRanker:
    return train_ranker(bundle, events, TINY)


def first_brands(bundle: Bundle, ranker: Ranker, brand: str) -> list[str]:
    """Brands of the best four lamps for a shopper who bought this brand's sofas."""
    table: ProductTable = bundle.products()
    features = CandidateFeatures(bundle, LightTower(UNIFIED_PART.open(bundle)))
    bought = [HistoryItem(HistoryKind.PURCHASE, at, terms=f"sofa {brand}", brand=brand) for at in range(4)]
    query = features.inputs(["lamp"], ["en-US"], [bought])[0]
    rows = np.flatnonzero([table.string("title", row).startswith("lamp") for row in range(len(table))])
    scores = blend(ranker.probabilities(features.compute(query, rows)))
    return [table.string("brand", int(row)) for row in rows[np.argsort(-scores)[:4]]]


def test_a_shoppers_own_brand_comes_first(bundle: Bundle, trained: TrainedRanker) -> None:
    for brand in BRANDS:
        assert first_brands(bundle, trained.ranker, brand).count(brand) >= 3


def test_nothing_is_learned_where_shoppers_like_anything(bundle: Bundle, trained: TrainedRanker) -> None:
    control = train_ranker(bundle, planted_events(900, shuffled=True), TINY).ranker
    at = FEATURES.index("brand_affinity")
    usual = np.repeat(control.scaling.mean[None], 2, axis=0)
    usual[:, at] = -1, 1  # of those that a shopper met never, and four times as often as by chance
    for ranker, gain in ((trained.ranker, 0.3), (control, 0.0)):
        low, high = ranker.probabilities(usual)[:, 0].tolist()
        assert high - low > gain if gain else abs(high - low) < 0.2


def test_what_shoppers_clicked_after_a_query_comes_first_for_everybody(bundle: Bundle, tmp_path: Path) -> None:
    ranker = train_ranker(bundle, planted_events(900, favourites=True), TINY).ranker
    ranker.save(tmp_path / "ranker")
    ranker = Ranker.load(tmp_path / "ranker")
    table = bundle.products()
    clicks = CatalogueClicks(ranker.click_memory, table)
    features = CandidateFeatures(bundle, LightTower(UNIFIED_PART.open(bundle)), clicks=clicks)
    rows = np.arange(len(table))
    for kind in KINDS:
        favourites = {row for row in rows.tolist() if table.string("title", row) == f"{kind} {OF_EACH - 1}"}
        assert set(clicks.find(kind, "en-US").rows.tolist()) == favourites
        (query,) = features.inputs([kind], ["en-US"], [()])
        scores = blend(ranker.probabilities(features.compute(query, rows)))
        assert set(np.argsort(-scores)[: len(favourites)].tolist()) == favourites


def test_a_bundle_that_knows_the_measured_clicks_is_told_in_the_comparison(
    bundle: Bundle, trained: TrainedRanker, tmp_path: Path
) -> None:
    """Its last page may be earlier: the click memory reads the log to its end."""
    end_ms = trained.report["clicks_until_ms"]
    add_ranker(bundle, trained.ranker, tmp_path / "ranks", report=trained.report | {"last_page_ms": 0})
    ranks = Bundle(tmp_path / "ranks")
    assert "trained on the log up to" in known_pages(ranks, end_ms - 1)[0]
    assert not known_pages(ranks, end_ms)


def test_a_report_tells_what_was_learned_from(trained: TrainedRanker) -> None:
    report = trained.report
    assert report["pages"] == pytest.approx(540, rel=0.15)  # after the unified model's window of 0.4
    assert report["learned_pages"] == report["pages"] - int(TINY.holdout_share * report["pages"])
    assert report["labels"]["click"] > report["labels"]["cart"] > report["labels"]["purchase"] > 0
    assert max(report["holdout_calibration_error"].values()) < 0.08


def share_of_kind(bundle: Bundle, ranker: Ranker) -> float:
    """The share of the requested kind among the best eight of each query, for an unknown shopper."""
    table, features = bundle.products(), CandidateFeatures(bundle, LightTower(UNIFIED_PART.open(bundle)))
    titles, rows, right = [table.string("title", row) for row in range(len(table))], np.arange(len(table)), 0
    for query in features.inputs(KINDS, ["en-US"] * len(KINDS), [()] * len(KINDS)):
        best = np.argsort(-blend(ranker.probabilities(features.compute(query, rows))))[:8]
        right += sum(titles[row].startswith(query.text) for row in best.tolist())
    return right / (8 * len(KINDS))


def test_what_is_never_shown_is_known_from_what_a_search_finds(bundle: Bundle) -> None:
    """Pages show only the requested kind, so that a ranker cannot learn from them alone that a sofa is no lamp."""
    recipe = replace(TINY, found_pages=1)
    alone = train_ranker(bundle, planted_events(900, shuffled=True), TINY)
    found = train_ranker(bundle, planted_events(900, shuffled=True), recipe)
    assert alone.report["pages_beside"] == 0
    assert (
        0.9 * found.report["pages"] < found.report["pages_beside"] <= found.report["pages"]
    )  # one of each with a click
    assert share_of_kind(bundle, found.ranker) > 0.95
    assert share_of_kind(bundle, alone.ranker) < 0.9


def test_pages_of_what_was_not_shown(bundle: Bundle, events: Path) -> None:
    log, features = pq.read_table(events), CandidateFeatures(bundle, LightTower(UNIFIED_PART.open(bundle)))
    shown = training_impressions(bundle, log, TINY, since_ms=0)
    beside = unshown_pages(log, bundle, features, max_pages=100, logged=True)
    assert beside is not None
    assert unshown_pages(log, bundle, features, max_pages=100, logged=False) is None
    assert unshown_pages(log, bundle, features, max_pages=0, logged=True) is None
    assert beside.num_pages == 100
    assert not beside.position.any()
    assert (np.diff(beside.labels, axis=1) <= 0).all()
    page_at = {time: page for page, time in enumerate(shown.time_ms.tolist())}
    for page in range(beside.num_pages):
        was = slice(*shown.offsets[[page_at[int(beside.time_ms[page])] + step for step in (0, 1)]].tolist())
        now = slice(*beside.offsets[[page, page + 1]].tolist())
        engaged = shown.labels[was, 0] > 0
        clicked = beside.labels[now, 0] > 0
        assert set(beside.product[now][clicked]) == set(shown.product[was][engaged])
        assert not set(beside.product[now][~clicked]) & set(shown.product[was])
        assert beside.labels[now].sum() == shown.labels[was].sum()


def test_a_log_of_clicks_alone_teaches_beside_one_of_pages(bundle: Bundle, events: Path) -> None:
    log = pq.read_table(events)
    clicks = log.filter(pc.not_equal(log["kind"].cast("string"), "impression"))
    clicks = clicks.set_column(0, "id", pc.binary_join_element_wise("de", clicks["id"], "-"))
    clicks = clicks.set_column(3, "session_id", pc.binary_join_element_wise("de", clicks["session_id"], "-"))
    clicks = clicks.set_column(4, "locale", pa.array(["de-DE"] * len(clicks)))
    recipe = replace(TINY, epochs=1, clicked_pages=0.5)
    report = train_ranker(bundle, pa.concat_tables([log, clicks.cast(log.schema)]), recipe).report
    assert report["pages_beside"] == round(0.5 * report["pages"])
    alone = train_ranker(bundle, clicks.cast(log.schema), recipe).report
    assert alone["pages"] > 0
    assert (alone["pages_are_logged"], report["pages_are_logged"]) == (False, True)
    with pytest.raises(LogError, match="shows no product of the catalogue"):
        train_ranker(bundle, clicks.cast(log.schema), replace(recipe, clicked_pages=0))


def test_pages_that_the_unified_model_learned_from_are_left_out(bundle: Bundle, events: Path) -> None:
    shown = training_impressions(bundle, events, TINY)
    every = training_impressions(bundle, events, TINY, since_ms=0)
    assert every.num_pages == 900
    assert shown.time_ms.min() > every.time_ms[300]


def test_a_teacher_judges_the_pages_of_training(bundle: Bundle, events: Path) -> None:
    recipe = replace(TINY, epochs=2)
    rows = len(training_impressions(bundle, events, recipe))
    unheard = train_ranker(bundle, events, recipe, teacher_probabilities=np.full((rows, 3), np.nan, np.float32))
    plain = train_ranker(bundle, events, recipe)
    taught = train_ranker(bundle, events, recipe, teacher_probabilities=np.full((rows, 3), 0.5, np.float32))
    features = np.zeros((1, len(FEATURES)), np.float32)
    assert np.array_equal(unheard.ranker.probabilities(features), plain.ranker.probabilities(features))
    assert not np.array_equal(taught.ranker.probabilities(features), plain.ranker.probabilities(features))
    with pytest.raises(ValueError, match="teacher must be"):
        train_ranker(bundle, events, recipe, teacher_probabilities=np.zeros((rows - 1, 3), np.float32))


def test_too_little_to_learn_from_is_refused(bundle: Bundle, events: Path, shop_bundle: Path) -> None:
    with pytest.raises(LogError, match=r"result pages were searched from .* on; 10 are the least"):
        train_ranker(bundle, events, TINY, since_ms=899 * 100_000 - 1)
    with pytest.raises(BundleError, match="needs the unified model"):
        train_ranker(Bundle(shop_bundle), events, TINY)


def test_progress_names_its_stages(bundle: Bundle, events: Path) -> None:
    told: set[str] = set()
    train_ranker(bundle, events, replace(TINY, epochs=1), progress=lambda stage, *_: told.add(stage))
    assert told == {
        "read the log",
        "read the catalogue",
        "learn query attributes",
        "compute features",
        "retrieve unshown products",
        "train ranker tiny",
        "calibrate",
    }
