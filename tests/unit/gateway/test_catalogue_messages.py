"""Numbers of offers as texts that mean them alone, and what makes two calls the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisle.v1 import catalogue_pb2, product_pb2
from models.arrays import silent
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.source import Source
from models.products.attributes.parse import read_value
from models.products.attributes.spec import AttributeSpec, AttributeType
from models.products.product import Product
from models.text_encoder.embed_products import TextEmbedding
from serving.config import CatalogueConfig
from serving.gateway.messages.catalogue import CatalogueMessages, _content, number_text


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(("", "cm", "kg")))
def test_a_number_is_a_text_that_reads_as_it_or_none(value: float, unit: str) -> None:
    text = number_text(value, unit)
    if text is None:
        assert not math.isfinite(value) or not 1e-200 < abs(value) < 1e200
    else:
        assert read_value(text, AttributeType.NUMBER, unit) == (value,)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2 cm"),
        (-3.5, "-3.5 cm"),
        (1.234, "1.2340 cm"),
        (1e-7, "0.0000001 cm"),
        (0.125, "0.125 cm"),
        (0.0, "0 cm"),
    ],
)
def test_numbers_are_written_as_a_catalogue_writes_them(value: float, text: str) -> None:
    assert number_text(value, "cm") == text


LISTED = Product(
    "listed",
    "Listed Rug",
    attributes={"tags": "red, blue", "length": "1.250 cm", "width": "40, 60"},
    lists={"tags": ("red", "blue"), "width": ("40", "60.5")},
)
PLAIN = Product("plain", "Plain Rug", attributes={"tags": "Red|green", "length": "3,5 cm", "released": "31/01/2024"})
EITHER = Product("either", "Dated Rug", attributes={"released": "02/03/2024", "length": "unknown"})


def test_a_product_that_is_upserted_as_it_was_returned_means_the_same(exported_encoder: Path, tmp_path: Path) -> None:
    source = Source(
        name="typed",
        fingerprint="1",
        products=lambda: iter((LISTED, PLAIN, EITHER)),
        report=dict,
        attributes=("tags", "length", "width", "released"),
        text_attributes=(),
        types=tuple(map(AttributeSpec.parse, ("tags:keywords", "length:number:cm", "width:number", "released:date"))),
    )
    recipe = Recipe(name="typed", encoder=str(exported_encoder), dimensions=(16,))
    build_bundle(source, recipe, tmp_path / "b", silent, embedding=TextEmbedding.for_recipe(recipe, ()))
    bundle = Bundle(tmp_path / "b")
    messages = CatalogueMessages(bundle.products(), bundle.attributes(), CatalogueConfig(), 1 << 20)
    listed, plain, either = messages.write_products(["listed", "plain", "either"]).products
    assert dict(listed.attributes) == {"tags": "red|blue", "length": "1250 cm", "width": "40, 60"}
    assert dict(plain.attributes) == PLAIN.attributes
    assert dict(either.attributes) == {"released": "2024-03-02T00:00:00+00:00", "length": "unknown"}
    again = messages.read_upserts(catalogue_pb2.UpsertProductsRequest(products=[listed, plain, either]))
    for product, length in zip(again.products, (1250.0, 3.5, None), strict=True):
        read = read_value(product.attributes["length"], AttributeType.NUMBER, "cm")
        assert read == (() if length is None else (length,))


def test_two_calls_are_the_same_if_they_ask_for_the_same() -> None:
    def upsert(attributes: dict[str, str], **fields: object) -> catalogue_pb2.UpsertProductsRequest:
        product = product_pb2.Product(id="p", title="t", attributes=attributes)
        return catalogue_pb2.UpsertProductsRequest(products=[product], **fields)  # type: ignore[arg-type]

    one = upsert({"a": "1", "b": "2"}, change_id="x")
    same = upsert({"b": "2", "a": "1"}, change_id="y", acknowledgement=catalogue_pb2.ACKNOWLEDGEMENT_LOGGED)
    assert _content(one) == _content(same) != _content(upsert({"a": "1"}))
    deletes = catalogue_pb2.DeleteProductsRequest(product_ids=["p"])
    offers = catalogue_pb2.UpdateOffersRequest(offers=[catalogue_pb2.Offer(product_id="p")])
    assert _content(deletes) != _content(offers)
