"""A planted shop: 8 kinds of things of 10 brands, and shoppers who each buy one brand, asking in words no title has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from models.events.event import EVENT_SCHEMA
from models.events.kinds import CART, CLICK, PURCHASE
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.query_types.recipe import TypesRecipe
from models.query_types.tokens import QueryHashing
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.recipe import FeatureStage, PageSample, TeacherRecipe, TextStage
from models.ranking.teacher.spec import HeadSizes
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.recipe import ClickStage, TextRecipe
from models.train_all import LoopRecipe
from models.unified.history import HistoryBlocks, HistoryItem, HistoryKind, product_item
from models.unified.price_bands import PriceBands
from models.unified.recipe import NegativeMix, ProductBlocks, QueryGeneration, TowerSizes, UnifiedRecipe
from models.unified.shopping_log import UNKNOWN, ShoppingLog
from models.unified.words import WordHashing

# What sellers write, and what shoppers ask for.
KINDS = {
    "sofa": "couch",
    "rug": "carpet",
    "lamp": "light",
    "curtain": "drapes",
    "kettle": "boiler",
    "sneaker": "trainers",
    "sweater": "jumper",
    "bin": "trashcan",
}
BRANDS = ("Halden", "Nord", "Glanz", "Orro", "Vask", "Tulle", "Pim", "Kestrel", "Ubo", "Zefir")
OF_EACH = 5  # products of a kind and brand
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Planted:
    table: ProductTable
    log: ShoppingLog
    events: pa.Table

    def history_before(self, bands: PriceBands, shopper: int, time_ms: int) -> list[HistoryItem]:
        """Returns a shopper's items strictly before a time, in the plainest way."""
        log, items = self.log, list[HistoryItem]()
        seen: set[tuple[int, ...]] = set()
        for event in np.flatnonzero((log.shopper == shopper) & (log.time_ms < time_ms)).tolist():
            search, row, kind = int(log.search[event]), int(log.product[event]), int(log.kind[event])
            time = int(log.time_ms[event])
            if log.query[event] and (search,) not in seen:
                seen.add((search,))
                items.append(HistoryItem(HistoryKind.SEARCH, time, query=log.queries[log.query[event]]))
            if row == UNKNOWN or kind < CLICK or (kind in (CLICK, CART) and (search, row) in seen):
                continue
            seen |= {(search, row)} if kind != PURCHASE else set()
            product = self.table.product(row)
            item_kind = HistoryKind.PURCHASE if kind == PURCHASE else HistoryKind.CLICK
            items.append(product_item(item_kind, time, product, bands.band(product)))
        return items


def make_events(
    num_shoppers: int,
    searches_each: int,
    *,
    seed: int,
    anonymous: float = 0.0,
    locale: str = "en-US",
    words: Sequence[str] = tuple(KINDS.values()),
    prefix: str = "",
) -> pa.Table:
    """Searches that each lead to a click and a purchase of a product of the shopper's own brand, one in ten of any; `words` are what
    shoppers call the kinds, and `prefix` begins all names, so that two logs share none."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    times = np.sort(random.integers(0, 60 * DAY_MS, num_shoppers * searches_each))
    shoppers = random.permutation(np.repeat(np.arange(num_shoppers), searches_each))
    for at, (time, shopper) in enumerate(zip(times.tolist(), shoppers.tolist(), strict=True)):
        kind = int(random.integers(len(KINDS)))
        brand = shopper % len(BRANDS) if random.random() < 0.9 else int(random.integers(len(BRANDS)))
        number = (kind * len(BRANDS) + brand) * OF_EACH + int(random.integers(OF_EACH))
        passed_over = (kind * len(BRANDS) + int(random.integers(len(BRANDS)))) * OF_EACH
        is_known = random.random() >= anonymous
        found = [("impression", number, 0), ("impression", passed_over, 0), ("click", number, 2000)]
        found += [("purchase", number, 9000)] if random.random() < 0.5 else []
        for event, (name, product, later) in enumerate(found):
            rows.append(
                {
                    "id": f"{prefix}{at}-{event}",
                    "time": time + later,
                    "shopper_id": f"{prefix}shopper {shopper}" if is_known else "",
                    "session_id": f"{prefix}session {at}",
                    "locale": locale,
                    "kind": name,
                    "product_id": f"P-{product}",
                    "query": words[kind],
                    "position": 1,
                    "price_minor": 1000,
                }
            )
    return pa.Table.from_pylist(rows, EVENT_SCHEMA)


@pytest.fixture(scope="session")
def planted_table(tmp_path_factory: pytest.TempPathFactory) -> ProductTable:
    products = [
        Product(f"P-{number}", f"{brand} {kind} {number % OF_EACH}", brand, f"Home > {kind}", 1000 + number)
        for number, (kind, brand, _) in enumerate(
            (kind, brand, copy) for kind in KINDS for brand in BRANDS for copy in range(OF_EACH)
        )
    ]
    path = tmp_path_factory.mktemp("planted") / "products.arrow"
    write_products(path, products, ())
    return ProductTable(path)


@pytest.fixture(scope="session")
def plant(planted_table: ProductTable) -> Callable[..., Planted]:
    def make(num_shoppers: int = 150, searches_each: int = 16, *, seed: int = 0, anonymous: float = 0.0) -> Planted:
        events = make_events(num_shoppers, searches_each, seed=seed, anonymous=anonymous)
        ids = [planted_table.id(row) for row in range(len(planted_table))]
        return Planted(planted_table, ShoppingLog.from_table(events, ids), events)

    return make


@pytest.fixture(scope="session")
def planted(plant: Callable[..., Planted]) -> Planted:
    return plant()


@pytest.fixture(scope="session")
def tiny_recipe() -> UnifiedRecipe:
    """Seconds on one core."""
    return UnifiedRecipe(
        "tiny",
        epochs=6,
        batch=256,
        hashing=WordHashing(bits=12),
        sizes=TowerSizes(
            dim=64,
            prefixes=(32, 64),
            token_dim=32,
            id_bits=10,
            id_dim=8,
            product_hidden=64,
            query_hidden=64,
            mix_hidden=64,
            heads=2,
            readouts=2,
        ),
        products=ProductBlocks(text="frozen"),
        history=HistoryBlocks(2, 4, 4, 2),
        negatives=NegativeMix(uniform=128, kin=16),
        query_generation=QueryGeneration(dim=16, heads=2, vocabulary=256, max_product_words=6, steps=20, batch=64),
        graph_dim=8,
        train_share=0.8,
    )


@pytest.fixture
def silent() -> Callable[[str, int, int | None], None]:
    return lambda *_: None


@pytest.fixture
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen")


TEACHER = TeacherRecipe(
    "tiny",
    sample=PageSample(pages=40),
    head=HeadSizes(features=8, bottom=8, experts=2, expert=8, tower=4),
    features=FeatureStage(max_steps=3, pages=16),
    text=TextStage(max_steps=3, pages=4),
    precision="fp32",
)
RANKER = RankerRecipe("tiny", experts=2, expert_dim=8, tower_dim=4, epochs=2, max_pages=300, judged_pages=60)


@pytest.fixture(scope="session")
def tiny_base(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder of letters, with the tokens that masking words and joining texts take."""
    folder = Path(shutil.copytree(tiny_encoder, tmp_path_factory.mktemp("base") / "tiny"))
    config = BertConfig.from_pretrained(folder, max_position_embeddings=96)  # for a query and a product
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    names = {"mask_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast.from_pretrained(folder, **names).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_loop(tiny_recipe: UnifiedRecipe, tiny_base: Path) -> LoopRecipe:
    """All stages, seconds in all."""
    return LoopRecipe(
        "tiny",
        TextRecipe("tiny", mlm=MlmStage(2, batch=8), click=ClickStage(max_steps=2, batch=8), precision="fp32"),
        replace(tiny_recipe, epochs=0.5),
        TypesRecipe("tiny", hashing=QueryHashing(bits=12), dim=16, epochs=1),
        TEACHER,
        RANKER,
        base=str(tiny_base),
        report_pages=150,
    )
