"""A real but tiny encoder, so that a whole bundle builds in a second: a random two-layer BERT over single letters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from models.bundles.build import Recipe, build_bundle
from models.bundles.manifest import Manifest
from models.bundles.source import Source
from models.devices import cuda_is_usable
from models.products.product import Product
from models.query_types.type_model import TypeModel
from models.text_encoder.embed_products import TextEmbedding
from models.unified.words import Ragged

# The time of an example is the machine's matter: the first of a fresh checkout pays for Hypothesis' own tables.
settings.register_profile(
    "aisle", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("aisle")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not cuda_is_usable():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps stores and logs that a test does not place itself out of the user's own state."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


MakeSource = Callable[..., Source]
BuildTiny = Callable[..., Manifest]

SHOP = [
    Product("A-1001", "Velvet Sofa", "Halden", "Furniture > Sofas", 49_900, True, {"colour": "red", "care": "wipe"}),
    Product("A-1002", "Velvet Armchair", "halden", "Furniture > Armchairs", 19_900, False, {"colour": "blue"}),
    Product("A-1003", "Sofa Bed HX-4210", "Nord", "Furniture > Sofas > Sofa Beds", None, True),
    Product("A-1004", "Café Table", "Nord", "Furniture > Tables", 9_900, True, {"colour": "grün"}),
    Product("A-1005", "Furniture Polish", "Glanz", "Furniture Care", 499, True),
    Product("A-1006", "Lamp", "", "", 0, True),
]


RealData = Callable[[str], Path]
_DATA_FOLDER = Path("shared", "data")


@pytest.fixture(scope="session")
def real_data() -> RealData:
    """Finds a file of the public data sets that some tests read and the project does not ship.

    They lie in the folder that $AISLE_DATA names, or in a checkout's neighbour folder `shared/data`: next to the repository or to one of
    its parents. The test skips where the file is not there.
    """
    if named := os.environ.get("AISLE_DATA"):
        folders = [Path(named)]
    else:
        root = Path(__file__).resolve().parents[1]
        folders = [folder / _DATA_FOLDER for folder in (root, *root.parents)]

    def find(name: str) -> Path:
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None:
            pytest.skip(
                f"{name} is missing: name its folder in AISLE_DATA, or put it into {_DATA_FOLDER} next to the repository"
            )
        return found

    return find


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face model folder."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


def write_tiny_encoder(folder: Path, *, pad_token: str | None = "[PAD]") -> Path:  # noqa: S107
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "sofa", "velvet"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad_token, unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        initializer_range=0.3,
        pad_token_id=0 if pad_token else None,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `TextEncoder` loads it; a build only copies it."""
    from models.text_encoder.export import export_encoder

    folder = tmp_path_factory.mktemp("encoders") / "exported"
    export_encoder(str(tiny_encoder), folder)
    return folder


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., Path]:
    return write_tiny_encoder


@pytest.fixture(scope="session")
def make_source() -> MakeSource:
    def make(products: Iterable[Product], *, fingerprint: str = "1", text: Sequence[str] = ("care",)) -> Source:
        """Like a catalogue it may be read only once, and in its order."""
        once = iter(products)

        def read() -> Iterator[Product]:
            yield from once

        return Source(
            name="test shop",
            fingerprint=fingerprint,
            products=read,
            report=dict,
            attributes=("colour", *text),
            text_attributes=tuple(text),
        )

    return make


@pytest.fixture(scope="session")
def build_tiny(exported_encoder: Path, make_source: MakeSource) -> BuildTiny:
    def build(
        out: Path,
        products: Iterable[Product] = tuple(SHOP),
        *,
        fingerprint: str = "1",
        replace: bool = False,
        **recipe: object,
    ) -> Manifest:
        stated = {"name": "tiny", "encoder": str(exported_encoder), "dimensions": (16,), "locales": ("en-US", "de-DE")}
        source = make_source(products, fingerprint=fingerprint)
        made_by = Recipe(**(stated | recipe))  # type: ignore[arg-type]
        embedding = TextEmbedding.for_recipe(made_by, source.text_attributes)
        return build_bundle(source, made_by, out, lambda *_: None, embedding=embedding, replace=replace)

    return build


@pytest.fixture(scope="session")
def shop() -> list[Product]:
    return SHOP


@pytest.fixture(scope="session")
def shop_bundle(build_tiny: BuildTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `shop`. Read only."""
    folder = tmp_path_factory.mktemp("shop") / "bundle"
    build_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def shop_types() -> TypeModel:
    """A classifier of what `shop` sells, and of bicycles, which it does not; "table" is a lamp in en-GB. Read only."""
    from models.query_types.examples import TypeExamples
    from models.query_types.recipe import TypesRecipe
    from models.query_types.tokens import QueryHashing
    from models.query_types.train_types import train_types

    locales = ("en-US", "en-GB", "de-DE")
    nouns = {
        "Furniture > Sofas": ("sofa", "sofa", "sofa"),
        "Furniture > Armchairs": ("armchair", "armchair", "sessel"),
        "Furniture > Tables": ("table", "desk", "tisch"),
        "Furniture Care": ("polish", "table", "politur"),
        "Sports > Bikes": ("bicycle", "bicycle", "fahrrad"),
    }
    words = ("", "red ", "blue ", "velvet ", "old ", "new ", "cheap ", "large ")
    rows = [
        (word + noun, locale, kind)
        for kind, said in enumerate(nouns.values())
        for locale, noun in enumerate(said)
        for word in words
    ]
    examples = TypeExamples(
        queries=[query for query, _, _ in rows],
        locale=np.array([locale for _, locale, _ in rows], np.int32),
        labels=Ragged.from_rows([[kind] for _, _, kind in rows]),
        weight=np.ones(len(rows), np.float32),
        types=tuple(nouns),
        locales=locales,
    )
    return train_types(examples, TypesRecipe("tiny", hashing=QueryHashing(bits=12), dim=32, epochs=40, batch=32))
