"""A pattern that only the text shows: for "gift" shoppers buy velvet, for daily things velvet and cotton alike. No feature has it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import TrainingError
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.ranking.impressions import Impressions
from models.ranking.recipe import Transfer, Weighting
from models.ranking.teacher.catalogue_view import CatalogueView
from models.ranking.teacher.fields import Field
from models.ranking.teacher.recipe import FeatureStage, Objective, PageSample, TeacherRecipe, Texts, TextStage
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.spec import HeadSizes, TeacherError
from models.ranking.teacher.teacher import Teacher
from models.ranking.teacher.train_teacher import train_teacher
from models.text_encoder.spec import EncoderError
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.stages import CHECKPOINT_STEPS
from models.unified.price_bands import PriceBands

STUFFS = ("velvet", "cotton")
QUERIES = ("gift", "daily")
# Of what was clicked.
BOUGHT = {("gift", "velvet"): 0.9, ("gift", "cotton"): 0.05, ("daily", "velvet"): 0.5, ("daily", "cotton"): 0.5}
COLOURS = ("red", "blue", "green", "black")
NAMES = ("noise", "clickable")
SHOWN = 6
RECIPE = TeacherRecipe(
    "tiny",
    texts=Texts((Field("title", 4), Field("attributes.colour", 1)), 4),
    sample=PageSample(pages=None, others=None),
    head=HeadSizes(features=32, bottom=32, experts=2, expert=32, tower=16, dropout=0.0),
    features=FeatureStage(max_steps=60, pages=32),
    text=TextStage(epochs=100, max_steps=150, pages=16, learning_rate=2e-3, head_rate=3e-3, chunk=96),
    precision="fp32",
)
SHORT = dataclasses.replace(
    RECIPE, features=FeatureStage(max_steps=5, pages=32), text=dataclasses.replace(RECIPE.text, max_steps=5)
)


@dataclass(frozen=True)
class Shop:
    shelf: CatalogueView
    base: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    products = [
        Product(f"{stuff} {colour}", f"{stuff} rug", attributes={"colour": colour})
        for stuff in STUFFS
        for colour in COLOURS
    ]
    write_products(folder / "products.arrow", products, ["colour"])
    shelf = CatalogueView(ProductTable(folder / "products.arrow"), PriceBands({}), ("en-US",))
    return Shop(shelf, str(tiny_bert(folder / "bert")))


def tiny_bert(folder: Path, layers: int = 2, **changes: int) -> Path:
    """A raw BERT with random weights."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rug", "title", "colour", *STUFFS, *QUERIES, *COLOURS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 40}
    # The usual range of 0.02 is for wide networks: with 32 numbers hardly anything would reach the second layer.
    start = {"initializer_range": 0.15, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=len(words), num_hidden_layers=layers, **(sizes | changes | start))
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def shopping(shelf: CatalogueView, num_pages: int, seed: int) -> tuple[Impressions, np.ndarray]:
    """Pages of products; a feature tells what is clicked, and text alone what of that is bought."""
    random = np.random.default_rng(seed)
    queries = [str(random.choice(list(QUERIES))) for _ in range(num_pages)]
    product = np.concatenate([random.choice(len(shelf.table), SHOWN, replace=False) for _ in queries])
    stuff = np.array([shelf.table.string("title", row).split()[0] for row in product.tolist()])
    click = random.random(len(product)) < 0.5
    chance = [
        BOUGHT[query, kind] for query, kind in zip(np.repeat(queries, SHOWN).tolist(), stuff.tolist(), strict=True)
    ]
    bought = click & (random.random(len(product)) < chance)
    features = np.stack([random.normal(size=len(product)), click + 0.1 * random.normal(size=len(product))], axis=1)
    shown = Impressions(
        page=np.repeat(np.arange(num_pages), SHOWN),
        product=product,
        position=np.tile(np.arange(1, SHOWN + 1), num_pages),
        labels=np.stack([click, bought, bought], axis=1).astype(np.float32),
        queries=queries,
        locales=["en-US"] * num_pages,
        time_ms=np.arange(num_pages),
        shopper=np.zeros(num_pages, np.int32),
        is_anonymous=np.zeros(num_pages, np.bool_),
        histories=[[]] * num_pages,
    )
    return shown, features.astype(np.float32)


def what_it_reads(shop: Shop, teacher: Teacher) -> float:
    """How much more velvet is preferred for a gift than for daily things, in log-odds of a purchase of what was clicked; planted are 5.1.
    What is known of queries and products apart adds nothing to it."""
    shown, features = shopping(shop.shelf, 300, 99)
    chances = soft_labels(teacher, shown, features, shop.shelf.table, shop.shelf.bands)[:, 2]
    stuff = np.array([shop.shelf.table.string("title", row).split()[0] for row in shown.product.tolist()])
    query = np.repeat(shown.queries, SHOWN)
    odds = {}
    for cell in BOUGHT:
        rows = (query == cell[0]) & (stuff == cell[1]) & (shown.labels[:, 0] > 0)
        odds[cell] = np.log(chances[rows].mean() / (1 - chances[rows].mean()))
    gift, daily = (odds[name, "velvet"] - odds[name, "cotton"] for name in QUERIES)
    return float(gift - daily)


def train(shop: Shop, out: Path, recipe: TeacherRecipe = RECIPE, **options: object) -> Teacher:
    shown, features = shopping(shop.shelf, 300, 1)
    train_teacher(shop.shelf, shown, features, NAMES, out, recipe, shop.base, **options)  # type: ignore[arg-type]
    return Teacher.load(out, "cpu", threads=1, features=NAMES)


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    train(shop, out)
    return out


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    return Teacher.load(folder, "cpu", threads=1, features=NAMES)


def test_it_reads_query_and_product_together(shop: Shop, teacher: Teacher) -> None:
    assert what_it_reads(shop, teacher) > 2.5


def test_it_finds_nothing_where_labels_are_shuffled(shop: Shop, tmp_path: Path) -> None:
    found = train(shop, tmp_path / "shuffled", shuffled_labels=True)
    assert abs(what_it_reads(shop, found)) < 1


def test_features_alone_cannot_know_it(shop: Shop, tmp_path: Path) -> None:
    found = train(shop, tmp_path / "features", dataclasses.replace(RECIPE, use_text=False))
    assert abs(what_it_reads(shop, found)) < 0.3


def test_chances_are_nested_and_hold_on_new_pages(shop: Shop, teacher: Teacher) -> None:
    shown, features = shopping(shop.shelf, 300, 7)
    chances = soft_labels(teacher, shown, features, shop.shelf.table, shop.shelf.bands)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert chances.mean(axis=0) == pytest.approx(shown.labels.mean(axis=0), abs=0.04)


def test_with_fewer_products_of_a_page_chances_are_still_those_of_the_log(shop: Shop, tmp_path: Path) -> None:
    sample = PageSample(pages=None, others=1)
    found = train(shop, tmp_path / "sampled", dataclasses.replace(RECIPE, sample=sample))
    shown, features = shopping(shop.shelf, 300, 7)
    chances = soft_labels(found, shown, features, shop.shelf.table, shop.shelf.bands)
    assert chances.mean(axis=0) == pytest.approx(shown.labels.mean(axis=0), abs=0.06)


def test_a_row_does_not_depend_on_what_it_is_asked_with(shop: Shop, teacher: Teacher) -> None:
    shown, features = shopping(shop.shelf, 5, 3)
    products = teacher.texts.products(shop.shelf.table, shop.shelf.bands, shown.product[:SHOWN])
    together = teacher.rerank(shown.queries[0], "en-US", products, features[:SHOWN])
    alone = [
        teacher.rerank(shown.queries[0], "en-US", products.take(np.array([at])), features[[at]]) for at in range(SHOWN)
    ]
    assert np.allclose(together, np.concatenate(alone), atol=0.01)  # bf16 sums in another order


def test_both_forms_of_a_teacher_agree(shop: Shop, teacher: Teacher, folder: Path) -> None:
    from models.ranking.teacher.torch_network import TorchNetwork

    spec = teacher.spec
    torch_one = TorchNetwork(folder, "cpu", spec)
    shown, features = shopping(shop.shelf, 20, 3)
    found = [
        soft_labels(each, shown, features, shop.shelf.table, shop.shelf.bands)
        for each in (teacher, Teacher(spec, teacher.texts, torch_one))
    ]
    assert np.allclose(found[0], found[1], atol=0.03)  # bf16 against fp32


@pytest.mark.gpu
def test_it_learns_on_a_gpu_and_judges_there_as_on_the_cpu(shop: Shop, tmp_path: Path) -> None:
    """In bf16 there, in batches that are padded and captured."""
    teacher = train(shop, tmp_path / "teacher", device="cuda")
    assert what_it_reads(shop, teacher) > 2.5
    on_gpu = Teacher.load(tmp_path / "teacher", "cuda", features=NAMES)
    for pages in (1, 3, 200):  # 200: more pairs than any call that is captured has
        shown, features = shopping(shop.shelf, pages, pages)
        found = [soft_labels(each, shown, features, shop.shelf.table, shop.shelf.bands) for each in (teacher, on_gpu)]
        assert np.allclose(found[0], found[1], atol=0.03)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "network.safetensors")


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_with_the_same_weights(shop: Shop, tmp_path: Path) -> None:
    steps = CHECKPOINT_STEPS + 10
    recipe = dataclasses.replace(
        SHORT, mlm=MlmStage(steps=3, batch=8), text=dataclasses.replace(SHORT.text, max_steps=steps, pages=2)
    )

    def interrupt(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("train: text", CHECKPOINT_STEPS + 5):
            raise Interrupted

    with pytest.raises(Interrupted):
        train(shop, tmp_path / "one", recipe, progress=interrupt)
    seen: list[int] = []
    train(
        shop,
        tmp_path / "one",
        recipe,
        progress=lambda stage, done, _: seen.append(done) if stage == "train: text" else None,
    )
    assert seen[0] == CHECKPOINT_STEPS + 1
    train(shop, tmp_path / "other", recipe)
    one, other = weights_of(tmp_path / "one"), weights_of(tmp_path / "other")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "cls", "layers": 1, "mlm": MlmStage(steps=2, batch=8), "use_position": False},
        {
            "use_features": False,
            "transfer": Transfer.NONE,
            "objective": Objective(Weighting.UNCERTAINTY, listwise=0),
            "head": HeadSizes(features=8, bottom=8, experts=1, expert=8, tower=4),
        },
    ],
    ids=["one layer", "text alone"],
)
def test_every_variant_trains_and_is_loaded(shop: Shop, tmp_path: Path, changes: dict[str, object]) -> None:
    found = train(shop, tmp_path / "variant", dataclasses.replace(SHORT, **changes))  # type: ignore[arg-type]
    shown, features = shopping(shop.shelf, 5, 3)
    chances = soft_labels(found, shown, features, shop.shelf.table, shop.shelf.bands)
    assert (np.diff(chances, axis=1) <= 0).all()
    layers = json.loads((tmp_path / "variant" / "config.json").read_text())["num_hidden_layers"]
    assert layers == changes.get("layers", 2)


def test_what_cannot_be_is_refused_by_name(shop: Shop, tmp_path: Path) -> None:
    shown, features = shopping(shop.shelf, 20, 1)
    args = (shop.shelf, shown, features, NAMES, tmp_path / "out", SHORT, shop.base)
    broken = features.copy()
    broken[3, 1] = np.nan
    with pytest.raises(TrainingError, match="the feature clickable is not a finite number"):
        train_teacher(*args[:2], broken, *args[3:])
    with pytest.raises(TrainingError, match="nothing to learn"):
        train_teacher(args[0], dataclasses.replace(shown, labels=0 * shown.labels), *args[2:])
    with pytest.raises(EncoderError, match="has 2 layers, 3 are requested"):
        train_teacher(*args[:5], dataclasses.replace(SHORT, layers=3), shop.base)
    short = str(tiny_bert(tmp_path / "bert", max_position_embeddings=10))
    with pytest.raises(EncoderError, match="reads 8 tokens, the recipe's texts have up to 15"):
        train_teacher(*args[:6], short)
    (tmp_path / "out").mkdir()
    with pytest.raises(TrainingError, match="exists; choose another folder"):
        train_teacher(*args)
    with pytest.raises(TeacherError, match="is no teacher"):
        Teacher.load(tmp_path / "out")


def test_a_teacher_refuses_features_that_it_was_not_trained_on(shop: Shop, teacher: Teacher, folder: Path) -> None:
    with pytest.raises(TeacherError, match="what differs: clickable, price"):
        Teacher.load(folder, "cpu", features=("noise", "price"))
    products = teacher.texts.products(shop.shelf.table, shop.shelf.bands, np.array([0]))
    with pytest.raises(ValueError, match=r"features must have the shape \(1, 2\), not \(1, 3\)"):
        teacher.rerank("gift", "en-US", products, np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="the feature noise is not a finite number"):
        teacher.rerank("gift", "en-US", products, np.array([[np.inf, 0]], np.float32))
