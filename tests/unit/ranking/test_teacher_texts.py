from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.ranking.teacher.fields import PRICE_WORDS, Field, attribute_fields, available_fields, markers
from models.ranking.teacher.language import product_texts
from models.ranking.teacher.pair_tokens import PairTokens, TextSpec, join_pairs, length_batches
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.words import Ragged

FIELDS = (
    Field("title", 3),
    Field("brand", 2),
    Field("category", 2),
    Field("attributes.colour", 1),
    Field("price_minor", 1),
)
WORDS = ("halden", "wool", "rug", "round", "rugs", "grey", "title", *PRICE_WORDS)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@pytest.fixture
def table(tmp_path: Path) -> ProductTable:
    products = [
        Product("a", "Wool rug round grey", "Halden", "Home > Rugs", 100, attributes={"colour": "Grey"}),
        Product("b", "[TITLE] rug"),
        *(Product(f"p{price}", "rug", category="Home > Rugs", price_minor=price) for price in range(200, 2_200, 100)),
    ]
    write_products(tmp_path / "products.arrow", products, ["colour"])
    return ProductTable(tmp_path / "products.arrow")


def pair_tokens(fields: tuple[Field, ...] = FIELDS, locales: tuple[str, ...] = ("en-US", "de-DE")) -> PairTokens:
    tokens = [*SPECIAL, *WORDS, *(marker.token for marker in markers(fields, locales))]
    tokenizer = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([token for token in tokens if token.startswith("[")])
    return PairTokens(tokenizer, TextSpec(fields, locales, 2, 2, 3, 0, 2))


def read(texts: PairTokens, ids: np.ndarray) -> str:
    return " ".join(texts._tokenizer.id_to_token(int(number)) for number in ids)


def test_each_field_stands_behind_its_marker_and_is_cut(table: ProductTable) -> None:
    texts = pair_tokens()
    products = texts.products(table, PriceBands.from_products(table.products()), np.array([0]))
    expected = "[TITLE] wool rug round [BRAND] halden [TYPE] rugs [COLOUR] grey [PRICE] cheap [SEP]"
    assert read(texts, products.row(0)) == expected


def test_a_field_that_says_nothing_has_no_marker_and_text_is_never_a_marker(table: ProductTable) -> None:
    texts = pair_tokens()
    products = texts.products(table, PriceBands({}), np.array([1]))
    assert read(texts, products.row(0)) == "[TITLE] [UNK] title [UNK] [SEP]"


def test_all_products_are_those_one_by_one(table: ProductTable) -> None:
    texts, bands = pair_tokens(), PriceBands.from_products(table.products())
    every = texts.products(table, bands)
    assert len(every) == len(table)
    some = texts.products(table, bands, np.array([5, 0]))
    assert some.row(0).tolist() == every.row(5).tolist()
    assert some.row(1).tolist() == every.row(0).tolist()


def test_a_dear_product_has_another_price_word_than_a_cheap_one(table: ProductTable) -> None:
    texts, bands = pair_tokens((Field("price_minor", 1),)), PriceBands.from_products(table.products())
    products = texts.products(table, bands, np.array([2, len(table) - 1]))
    assert [read(texts, products.row(at)).split()[1] for at in range(2)] == [PRICE_WORDS[0], PRICE_WORDS[-1]]
    assert len(PRICE_WORDS) == NUM_BANDS


def test_a_query_begins_with_its_locale() -> None:
    texts = pair_tokens()
    queries = texts.queries(["grey wool rug", "rug", ""], ["de-DE", "fr-FR", "en-US"])
    read_ones = [read(texts, queries.row(at)) for at in range(3)]
    assert read_ones == ["[CLS] [DE-DE] grey wool [SEP]", "[CLS] [LOCALE] rug [SEP]", "[CLS] [EN-US] [SEP]"]


def test_fields_that_the_catalogue_lacks_are_left_out(table: ProductTable) -> None:
    assert available_fields((*FIELDS, Field("attributes.material", 3)), table) == FIELDS


def test_fields_and_markers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="field 'colour' cannot be read"):
        Field("colour", 3)
    with pytest.raises(ValueError, match="title: max_tokens must be 1 to 256, not 0"):
        Field("title", 0)
    with pytest.raises(ValueError, match=r"\[TYPE\] would stand for two things"):
        markers((Field("category", 2), Field("attributes.type", 2)), ())


def test_a_tokenizer_without_the_markers_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"does not know the marker \[TITLE\]"):
        PairTokens(tokenizer, TextSpec(FIELDS, (), 2, 2, 3, 0, 2))


def test_a_saved_spec_is_the_same(tmp_path: Path) -> None:
    spec = pair_tokens().spec
    spec.save(tmp_path)
    assert TextSpec.load(tmp_path) == spec


def test_pairs_are_padded_behind_and_know_which_half_is_which() -> None:
    spec = pair_tokens().spec
    batch = join_pairs(Ragged.from_rows([[2, 9, 3], [2, 3]]), Ragged.from_rows([[7, 3], [8, 3]]), spec)
    assert batch.ids.tolist() == [[2, 9, 3, 7, 3], [2, 3, 8, 3, 0]]
    assert batch.mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 0]]
    with pytest.raises(ValueError, match="2 queries do not pair with 1 products"):
        join_pairs(Ragged.from_rows([[2], [2]]), Ragged.from_rows([[3]]), spec)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200))
def test_every_row_is_in_one_batch_and_no_batch_is_over_its_budget(lengths: list[int], budget: int) -> None:
    groups = length_batches(np.array(lengths, np.int64), budget)
    assert sorted(row for group in groups for row in group.tolist()) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[row] for row in group) <= budget


def test_a_products_half_becomes_a_text_of_its_own() -> None:
    whole = product_texts(Ragged.from_rows([[7, 8, 3], [3]]), start_id=2, max_tokens=3)
    assert [whole.row(at).tolist() for at in range(2)] == [[2, 7, 8], [2, 3]]


def test_attributes_are_chosen_from_the_catalogue(tmp_path: Path) -> None:
    tints, words = ("red", "blue", "grey", "green"), "a long text that is different for product {} and for no other"
    products = [
        Product(
            f"p{at}",
            "rug",
            category="Home > Rugs",
            attributes={"type": "abcd"[at % 4], "farbe": tints[at % 4], "stil": "xy"[at % 2], "info": words.format(at)},
        )
        for at in range(40)
    ]
    write_products(tmp_path / "products.arrow", products, ["stil", "farbe", "type", "info"])
    table = ProductTable(tmp_path / "products.arrow")
    stated = (Field("title", 3), Field("category", 2))
    # "type" would have the marker of the category.
    assert attribute_fields(table, 4, 2, 16, stated) == (
        Field("attributes.farbe", 2),
        Field("attributes.stil", 2),
        Field("attributes.info", 16),
    )
    assert attribute_fields(table, 1, 2, 0, stated) == (Field("attributes.farbe", 2),)
    assert attribute_fields(table, 0, 2, 0, stated) == ()
