"""A planted synonym: shoppers say "gloobs" for sofas and so on, which no text of the catalogue does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from safetensors.torch import load_file

from models.bundles.manifest import BundleError
from models.bundles.source import Source
from models.errors import DegenerateLoss, TrainingError
from models.events.event import EVENT_SCHEMA
from models.products.product import Product, product_text
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.spec import EncoderError, Text
from models.text_tuning.click_stage import ClickLearner, PairBatch, click_loss
from models.text_tuning.encoder_network import EncoderNetwork
from models.text_tuning.mlm_recipe import MlmStage
from models.text_tuning.mlm_stage import MlmLearner
from models.text_tuning.pairs import gather_pairs, read_log
from models.text_tuning.product_texts import product_texts
from models.text_tuning.recipe import ClickStage, HardNegatives, Stage, TextRecipe
from models.text_tuning.train_text_encoder import TRAINING_FILE, train_text_encoder

# What sellers write, and what shoppers ask for.
WORDS = {
    "sofas": "gloobs",
    "rugs": "wazzle",
    "lamps": "brimp",
    "chairs": "snorfs",
    "tables": "plonk",
    "beds": "drowse",
}
COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey")
BRANDS = ("halden", "nord", "glanz")
RECIPE = TextRecipe(
    "tiny",
    mlm=MlmStage(steps=6, batch=16, learning_rate=1e-3),
    click=ClickStage(max_steps=110, epochs=100, batch=32, learning_rate=3e-3, chunk=16),
    precision="fp32",
)
SHORT = replace(RECIPE, click=replace(RECIPE.click, max_steps=6))


@dataclass(frozen=True)
class Shop:
    source: Source
    products: list[Product]
    log: Path
    base: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    products = [
        Product(f"{kind} {colour} {brand}", f"{brand} {colour} {kind}", brand)
        for kind in WORDS
        for colour in COLOURS
        for brand in BRANDS
    ]
    random = np.random.default_rng(0)
    rows = []
    for at in range(700):
        product = products[int(random.integers(len(products)))]
        kind, colour, _ = product.id.split()
        query = f"{colour} {WORDS[kind]}" if at % 2 else WORDS[kind]
        rows.append(
            {
                "id": str(at),
                "time": at,
                "shopper_id": "",
                "session_id": str(at),
                "locale": "en-US",
                "kind": "click",
                "product_id": product.id,
                "query": query,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, EVENT_SCHEMA), folder / "events.parquet")
    source = Source(
        name="planted",
        fingerprint="1",
        products=lambda: iter(products),
        report=dict,
        attributes=(),
        text_attributes=(),
        num_products=len(products),
    )
    return Shop(source, products, folder / "events.parquet", str(tiny_bert(folder / "bert")))


def tiny_bert(folder: Path) -> Path:
    """A raw BERT of two layers with random weights: no sentence-transformers files."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS, *WORDS.values(), *COLOURS, *BRANDS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Train:
    def run(recipe: TextRecipe = RECIPE, stages: tuple[Stage, ...] = (Stage.CLICK,), **options: object) -> Path:
        out = tmp_path_factory.mktemp("out") / "encoder"
        return train_text_encoder(shop.source, [shop.log], out, recipe, stages, shop.base, **options).folder  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="module")
def tuned(train: Train) -> Path:
    return train(excluded_queries=["gloobs pink"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def found(folder: Path, shop: Shop, exported: Path) -> dict[str, float]:
    """The share of the first 10 products for each word of shoppers that are the thing, through what serving loads."""
    export_encoder(str(folder), exported)
    encoder = TextEncoder(exported)
    products = encoder.encode([Text(product_text(product), "product") for product in shop.products])
    shares = {}
    for kind, word in WORDS.items():
        for query in (word, f"pink {word}"):
            best = np.argsort(-(encoder.encode([Text(query)]) @ products.T)[0])[:10]
            shares[query] = float(np.mean([shop.products[row].id.startswith(kind) for row in best]))
    return shares


def test_what_shoppers_call_things_is_found_and_from_shuffled_clicks_it_is_not(
    shop: Shop, train: Train, tuned: Path, tmp_path: Path
) -> None:
    shares = found(tuned, shop, tmp_path / "tuned")
    assert min(shares.values()) >= 0.9
    assert shares["pink gloobs"] >= 0.9  # never trained on, nor "gloobs pink"
    control = found(train(shuffled_clicks=True), shop, tmp_path / "control")
    assert np.mean(list(control.values())) < 0.4  # of 6 kinds each has a share of 0.17


@pytest.mark.gpu
def test_it_learns_the_same_on_a_gpu(shop: Shop, train: Train, tmp_path: Path) -> None:
    tuned = train(stages=(Stage.MLM, Stage.CLICK), device="cuda")
    assert min(found(tuned, shop, tmp_path / "tuned").values()) >= 0.9


def test_the_same_seed_gives_the_same_weights_and_another_does_not(train: Train) -> None:
    both = (Stage.MLM, Stage.CLICK)
    first = train(SHORT, both)
    assert same(first, train(SHORT, both))
    assert not same(first, train(SHORT, both, seed=1))


@pytest.mark.parametrize("stopped_at", [("train: mlm", 6), ("train: click", 105)])
def test_an_interrupted_training_ends_with_the_same_weights(
    shop: Shop, train: Train, tmp_path: Path, stopped_at: tuple[str, int]
) -> None:
    class Interruption(Exception):
        """As Ctrl-C would."""

    def interrupt(name: str, done: int, _total: int | None) -> None:
        if (name, done) == stopped_at:
            raise Interruption

    both = (Stage.MLM, Stage.CLICK)
    recipe = replace(RECIPE, click=replace(RECIPE.click, hard=HardNegatives(nearest=5)))
    arguments = (shop.source, [shop.log], tmp_path / "encoder", recipe, both, shop.base)
    with pytest.raises(Interruption):
        train_text_encoder(*arguments, progress=interrupt)  # type: ignore[arg-type]
    steps: list[tuple[str, int]] = []
    train_text_encoder(*arguments, progress=lambda name, done, _: steps.append((name, done)))  # type: ignore[arg-type]
    assert min(done for name, done in steps if name == "train: click") == (101 if stopped_at[1] > 100 else 1)
    assert same(tmp_path / "encoder", train(recipe, both))


def test_gradients_by_chunk_are_those_of_the_whole_batch(shop: Shop) -> None:
    texts = product_texts(shop.source, RECIPE.fields)
    pairs = gather_pairs(read_log([shop.log], texts.ids), RECIPE.pairs)
    gradients = []
    for cached in (False, True):
        network = EncoderNetwork(Path(shop.base)).train()
        tables = network.tokens(pairs.queries, "query", 16), network.tokens(texts.texts, "product", 16)
        stage = replace(RECIPE.click, cached=cached)
        ClickLearner(network, pairs, texts.group, tables, stage, 0, torch.float32).learn(3)
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("has_head", [True, False])
def test_a_new_head_of_the_language_model_learns_alone_at_first(shop: Shop, tmp_path: Path, has_head: bool) -> None:
    base = Path(shop.base)
    if not has_head:
        EncoderNetwork(base).save(base := tmp_path / "sentence-encoder")
    network = EncoderNetwork(base)
    table = network.tokens([*WORDS, *COLOURS], "product", 16)
    learner = MlmLearner(base, network, table, table, MlmStage(steps=8, batch=16), 0, torch.float32)
    for step, learns in ((0, has_head), (2, True)):
        learner.network.zero_grad(set_to_none=True)
        learner.learn(step)
        assert any(p.grad is not None for p in learner.network.base_model.encoder.parameters()) == learns


def test_training_tells_what_it_was(tuned: Path) -> None:
    told = json.loads((tuned / TRAINING_FILE).read_text())
    assert told["stages"] == ["click"]
    assert told["losses"]["click"][-1]["loss"] < told["losses"]["click"][0]["loss"]
    assert told["data"]["report"]["dropped"]["excluded query or a near-duplicate"] > 0
    assert told["excluded_queries"]["count"] == 1


def test_a_raw_encoder_is_pooled_by_its_mean_and_opens_in_sentence_transformers(
    tuned: Path, shop: Shop, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    spec = export_encoder(str(tuned), tmp_path / "exported")
    assert (spec.dim, spec.max_query_tokens) == (32, 38)
    texts = ["pink gloobs", "halden red sofas. halden"]
    served = TextEncoder(tmp_path / "exported").encode([Text(text) for text in texts])
    model = SentenceTransformer(str(tuned), device="cpu")
    assert (served * model.encode(texts)).sum(axis=1).min() > 0.999
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]


def test_prompts_stay_with_the_encoder_and_are_trained_with(shop: Shop, tmp_path: Path) -> None:
    base = tmp_path / "prompted"
    EncoderNetwork(Path(shop.base)).save(base)
    (base / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "red ", "passage": "blue "}})
    )
    network = EncoderNetwork(base)
    tokenizer = network.tokenizer
    assert tokenizer.decode(network.tokens(["sofas"], "query", 16).rows.row(0)) == "[CLS] red sofas [SEP]"
    assert tokenizer.decode(network.tokens(["sofas"], "product", 4).rows.row(0)) == "[CLS] blue sofas [SEP]"
    network.save(tmp_path / "saved")
    spec = export_encoder(str(tmp_path / "saved"), tmp_path / "exported")
    assert (spec.query_prefix, spec.product_prefix) == ("red ", "blue ")


def test_what_cannot_be_trained_is_refused_with_its_name(shop: Shop, train: Train, tuned: Path, tmp_path: Path) -> None:
    def attempt(out: Path = tmp_path / "out", base: str = shop.base, **changes: object) -> None:
        train_text_encoder(shop.source, [shop.log], out, base=base, **changes)  # type: ignore[arg-type]

    with pytest.raises(TrainingError, match="no stage 'dance'; there are mlm, click"):
        attempt(stages=("dance",))
    with pytest.raises(TrainingError, match="no stage is named"):
        attempt(stages=())
    with pytest.raises(TrainingError, match="exists; choose another folder"):
        attempt(out=tuned)
    with pytest.raises(TrainingError, match="prefix 64 is more than the encoder's 32 dimensions"):
        attempt(recipe=replace(SHORT, click=replace(SHORT.click, prefixes=(64,))))
    with pytest.raises(EncoderError, match="there is no directory"):
        attempt(base="./nowhere")
    (tmp_path / "full.partial").mkdir()
    (tmp_path / "full.partial" / "letter.txt").write_text("mine")
    with pytest.raises(BundleError, match="not an unfinished build"):
        attempt(out=tmp_path / "full")


def test_training_that_breaks_down_stops_with_its_stage_and_step(train: Train) -> None:
    broken = replace(SHORT, click=replace(SHORT.click, learning_rate=float("inf")))
    with pytest.raises(DegenerateLoss, match="stage click: the .* at step [0-9]"):
        train(broken)


def test_without_repetitions_the_loss_is_the_librarys() -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    random = torch.Generator().manual_seed(0)
    queries, products = (F.normalize(torch.randn(5, 8, generator=random), dim=1) for _ in range(2))
    batch = PairBatch(np.arange(5), np.arange(5), np.arange(5), np.eye(5, dtype=bool))
    for both_ways, directions in ((False, ("query_to_doc",)), (True, ("query_to_doc", "doc_to_query"))):
        library = MultipleNegativesRankingLoss(
            torch.nn.Identity(),  # type: ignore[arg-type]
            scale=20.0,
            directions=directions,  # type: ignore[arg-type]
            partition_mode="per_direction" if both_ways else "joint",
        )
        expected = library.compute_loss_from_embeddings([queries, products], torch.zeros(5))
        own = click_loss(queries, products, batch, torch.tensor(20.0), (), both_ways=both_ways)
        assert own.item() == pytest.approx(expected.item(), rel=1e-5)
