"""The encoders over gRPC: the same vectors that the bundle holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from aisle.v1 import embedding_pb2, embedding_pb2_grpc, product_pb2
from loadtest.benchmarks.service import served
from models.bundles.bundle import Bundle
from models.product_rows import ProductRows
from models.products.product import Product
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import SAME_VECTOR_COSINE, Text
from models.unified.static_feature_names import STATIC_FEATURES

Stub = embedding_pb2_grpc.EmbeddingServiceStub


def matrix(vectors: embedding_pb2.Vectors) -> np.ndarray:
    dtype = "<f2" if vectors.encoding == embedding_pb2.VECTOR_ENCODING_FLOAT16 else "<f4"
    return np.frombuffer(vectors.data, dtype).reshape(vectors.rows, vectors.dimensions).astype(np.float32)


def test_queries_come_in_order_as_unit_vectors(embedding: Stub, bundle: Bundle) -> None:
    queries = ["red sofa", "a much longer query about running shoes for winter", "tv"]
    answer = embedding.EmbedQueries(embedding_pb2.EmbedQueriesRequest(queries=queries), timeout=60)
    found = matrix(answer.vectors)
    expected = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu").encode([Text(query) for query in queries])
    assert found.shape == (3, 384)
    assert (found * expected).sum(1).min() >= SAME_VECTOR_COSINE
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-3)
    assert answer.bundle_version == bundle.manifest.version


def message(product: Product) -> product_pb2.Product:
    return product_pb2.Product(
        id=product.id,
        title=product.title,
        brand=product.brand,
        category=product.category,
        price_minor=product.price_minor,
        in_stock=product.in_stock,
        attributes=dict(product.attributes),
        other_categories=product.other_categories,
    )


def embed(stub: Stub, products: Sequence[Product]) -> np.ndarray:
    """Returns unit vectors (products, dim)."""
    answer = stub.EmbedProducts(
        embedding_pb2.EmbedProductsRequest(products=[message(product) for product in products]), timeout=60
    )
    return matrix(answer.vectors)


def test_products_get_the_vectors_of_the_bundle(embedding: Stub, bundle: Bundle) -> None:
    table, rows = bundle.products(), [0, 123, 999]
    products = [table.product(row) for row in rows]
    vectors = embed(embedding, products)
    held = np.asarray(bundle.vectors()[rows], np.float32)
    assert (vectors * held).sum(1).min() >= SAME_VECTOR_COSINE
    np.testing.assert_array_equal(ProductRows(bundle).rows(products, vectors), vectors.astype(np.float16))


@pytest.fixture(scope="module")
def personal(personal_folder: Path) -> Bundle:
    return Bundle(personal_folder)


@pytest.fixture(scope="module")
def personal_embedding(personal: Bundle) -> Iterator[Stub]:
    with served(personal.folder, "") as running, grpc.insecure_channel(running.address) as channel:
        yield Stub(channel)


def test_the_unified_model_gives_every_product_its_row_of_the_bundle(
    personal_embedding: Stub, personal: Bundle
) -> None:
    """The unit vector within the rounding of float16, the static features exactly."""
    products = list(personal.products().products())
    vectors = np.concatenate(
        [embed(personal_embedding, products[at : at + 100]) for at in range(0, len(products), 100)]
    )
    rows, dim = ProductRows(personal).rows(products, vectors), personal.manifest.dim
    held = np.asarray(personal.vectors())
    np.testing.assert_allclose(vectors, held[:, :dim].astype(np.float32), atol=5e-4)
    np.testing.assert_array_equal(rows[:, dim:], held[:, dim:])
    assert (rows[:, :dim] == held[:, :dim]).mean() > 0.95
    np.testing.assert_array_equal(ProductRows(personal).features(products), held[:, dim : dim + len(STATIC_FEATURES)])


def test_a_product_that_the_unified_model_never_met_is_near_one_with_its_words(
    personal_embedding: Stub, personal: Bundle
) -> None:
    table = personal.products()
    known = table.product(5)
    new = dataclasses.replace(known, id="never met")
    vector = embed(personal_embedding, [known, new])[1]
    one_by_one = embed(personal_embedding, [new])[0]
    np.testing.assert_allclose(vector, one_by_one, atol=1e-5)
    scores = np.asarray(personal.unit_vectors(), np.float32) @ vector
    nearest = [table.product(row).category for row in np.argsort(-scores)[:5].tolist()]
    assert known.category in nearest
    (features,) = ProductRows(personal).features([new])
    assert dict(zip(STATIC_FEATURES, features.tolist(), strict=True))["new"] == 1


def test_half_precision_and_a_matryoshka_prefix(embedding: Stub) -> None:
    full = matrix(embedding.EmbedQueries(embedding_pb2.EmbedQueriesRequest(queries=["red sofa"]), timeout=60).vectors)
    request = embedding_pb2.EmbedQueriesRequest(
        queries=["red sofa"], dimensions=128, encoding=embedding_pb2.VECTOR_ENCODING_FLOAT16
    )
    short = embedding.EmbedQueries(request, timeout=60).vectors
    assert (short.rows, short.dimensions, len(short.data)) == (1, 128, 256)
    prefix = full[:, :128] / np.linalg.norm(full[:, :128])
    assert (matrix(short) * prefix).sum() == pytest.approx(1, abs=2e-3)
