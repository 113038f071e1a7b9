"""Queries and products to embed are read as searches and catalogues read them; vectors are written as requested."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle.v1 import embedding_pb2, product_pb2, shopper_pb2
from models.bundles.bundle import Bundle
from models.text_encoder.spec import Text
from serving.config import AisleConfig, LimitsConfig
from serving.errors import InvalidRequest
from serving.gateway.messages.embedding import EmbeddingMessages, Products, Texts, write_vectors
from serving.gateway.messages.fields import RequestFields

PRODUCT = product_pb2.Product
QUERIES = embedding_pb2.EmbedQueriesRequest
PRODUCTS = embedding_pb2.EmbedProductsRequest
SHOPPER = embedding_pb2.EmbedShopperRequest
LIMITS = LimitsConfig(max_embed_items=4)
FIELD_100 = b"\xa0\x06\x01"


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture(scope="module")
def embedding(bundle: Bundle) -> EmbeddingMessages:
    fields = RequestFields(bundle.manifest.locales, AisleConfig(limits=LIMITS))
    return EmbeddingMessages(bundle.manifest, LIMITS, fields=fields)


def wrong(read: Callable[[Any], object], request: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(request)
    return {violation.field: violation.description for violation in caught.value.violations}


@settings(max_examples=200)
@given(data=st.binary(max_size=60))
def test_bytes_that_parse_are_no_exception(embedding: EmbeddingMessages, data: bytes) -> None:
    with contextlib.suppress(DecodeError, InvalidRequest):
        embedding.read_queries(QUERIES.FromString(data))
    with contextlib.suppress(DecodeError, InvalidRequest):
        embedding.read_products(PRODUCTS.FromString(data))
    with contextlib.suppress(DecodeError, InvalidRequest):
        embedding.read_shopper(SHOPPER.FromString(data))


def test_a_field_that_may_change_the_answer_is_refused(embedding: EmbeddingMessages) -> None:
    assert "newer" in wrong(embedding.read_queries, QUERIES.FromString(FIELD_100))["100"]
    assert "newer" in wrong(embedding.read_products, PRODUCTS.FromString(FIELD_100))["100"]
    assert "newer" in wrong(embedding.read_shopper, SHOPPER.FromString(FIELD_100))["100"]
    newer = PRODUCT.FromString(PRODUCT(title="Sofa").SerializeToString() + FIELD_100)
    assert "newer" in wrong(embedding.read_products, PRODUCTS(products=[newer]))["products[0].100"]


@pytest.mark.parametrize(
    ("query", "says"), [("", "must not be empty"), ("x" * 513, "at most 512"), ("a\x00", "U+0000")]
)
def test_what_is_no_query_is_named_with_its_place(embedding: EmbeddingMessages, query: str, says: str) -> None:
    assert says in wrong(embedding.read_queries, QUERIES(queries=["sofa", query]))["queries[1]"]


def test_a_shopper_is_an_id_or_events_or_both(embedding: EmbeddingMessages) -> None:
    click = shopper_pb2.Event(time_ms=1, kind=shopper_pb2.EVENT_KIND_CLICK, product_id="p")
    assert embedding.read_shopper(SHOPPER(shopper_id="ann")) == ("ann", ())
    shopper_id, events = embedding.read_shopper(SHOPPER(recent_events=[click]))
    assert (shopper_id, [event.product_id for event in events]) == ("", ["p"])
    assert "must not be empty" in wrong(embedding.read_shopper, SHOPPER())["shopper_id"]


def test_queries_are_read_like_a_searchs(embedding: EmbeddingMessages) -> None:
    read = embedding.read_queries(QUERIES(queries=[" sofa ", "cafe\u0301"]))
    assert read == Texts([Text("sofa", locale="en-US"), Text("café", locale="en-US")], 32)


def test_a_product_is_read_as_the_bundle_holds_it(bundle: Bundle, embedding: EmbeddingMessages) -> None:
    for product in bundle.products().products():
        message = PRODUCT(
            id=product.id,
            title=f"  {product.title}\n",
            brand=product.brand,
            category=product.category,
            price_minor=product.price_minor,
            in_stock=product.in_stock,
            attributes=product.attributes,
        )
        assert embedding.read_products(PRODUCTS(products=[message])) == Products([product], 32)


def test_a_product_is_cleaned_as_the_catalogue_cleans_it(embedding: EmbeddingMessages) -> None:
    (product,) = embedding.read_products(PRODUCTS(products=[PRODUCT(title="Cafe\u0301\x00 &amp;  Bar")])).products
    assert product.title == "Café & Bar"


@pytest.mark.parametrize(
    ("product", "field"),
    [
        (PRODUCT(brand="Nord"), "title"),
        (PRODUCT(title=" \x00\n"), "title"),
        (PRODUCT(title="x" * 2001), "title"),
        (PRODUCT(title="x", id="i" * 257), "id"),
        (PRODUCT(title="x", brand="b" * 2001), "brand"),
        (PRODUCT(title="x", category="b" * 2001), "category"),
        (PRODUCT(title="x", attributes={"care": "b" * 20_001}), "attributes['care']"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_product_that_cannot_be_is_named(product: PRODUCT, field: str, embedding: EmbeddingMessages) -> None:
    request = PRODUCTS(products=[PRODUCT(title="ok"), product])
    assert set(wrong(embedding.read_products, request)) == {f"products[1].{field}"}


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_and_too_many_are_refused(count: int, embedding: EmbeddingMessages) -> None:
    assert "must have 1 to 4" in wrong(embedding.read_queries, QUERIES(queries=["x"] * count))["queries"]
    assert (
        "must have 1 to 4"
        in wrong(embedding.read_products, PRODUCTS(products=[PRODUCT(title="x")] * count))["products"]
    )


def test_dimensions_and_encoding_are_those_offered(embedding: EmbeddingMessages) -> None:
    assert embedding.read_queries(QUERIES(queries=["x"], dimensions=16)).dimensions == 16
    found = wrong(embedding.read_queries, QUERIES(queries=["x"], dimensions=17, encoding=9))  # type: ignore[arg-type]
    assert found["dimensions"] == "is 17; offered are 16, 32"
    assert "encoding" in found


@pytest.mark.parametrize(
    ("encoding", "dtype", "error"),
    [
        (embedding_pb2.VECTOR_ENCODING_UNSPECIFIED, "<f4", 1e-6),
        (embedding_pb2.VECTOR_ENCODING_FLOAT32, "<f4", 1e-6),
        (embedding_pb2.VECTOR_ENCODING_FLOAT16, "<f2", 1e-3),
    ],
)
@pytest.mark.parametrize("dimensions", [32, 16])
def test_vectors_are_rows_of_the_stated_encoding(
    encoding: embedding_pb2.VectorEncoding.ValueType, dtype: str, error: float, dimensions: int
) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    message = write_vectors(vectors, dimensions, encoding)
    assert (message.rows, message.dimensions) == (3, dimensions)
    assert message.encoding != embedding_pb2.VECTOR_ENCODING_UNSPECIFIED
    read = np.frombuffer(message.data, dtype).reshape(3, dimensions).astype(np.float32)
    cut = vectors[:, :dimensions] / np.linalg.norm(vectors[:, :dimensions], axis=1, keepdims=True)
    assert np.abs(read - cut).max() < error
