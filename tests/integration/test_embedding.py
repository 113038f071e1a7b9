"""The encoders over gRPC: the same vectors that the bundle holds."""

from __future__ import annotations

import numpy as np
import pytest

from aisle.v1 import embedding_pb2, embedding_pb2_grpc, product_pb2
from models.bundles.bundle import Bundle
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import SAME_VECTOR_COSINE, Text

Stub = embedding_pb2_grpc.EmbeddingServiceStub


def matrix(vectors: embedding_pb2.Vectors) -> np.ndarray:
    dtype = "<f2" if vectors.encoding == embedding_pb2.VECTOR_ENCODING_FLOAT16 else "<f4"
    return np.frombuffer(vectors.data, dtype).reshape(vectors.rows, vectors.dimensions).astype(np.float32)


def test_queries_come_in_order_as_unit_vectors(embedding: Stub, bundle: Bundle) -> None:
    queries = ["red sofa", "a much longer query about running shoes for winter", "tv"]
    answer = embedding.EmbedQueries(embedding_pb2.EmbedQueriesRequest(queries=queries), timeout=5)
    found = matrix(answer.vectors)
    expected = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu").encode([Text(query) for query in queries])
    assert found.shape == (3, 384)
    assert (found * expected).sum(1).min() >= SAME_VECTOR_COSINE
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-3)
    assert answer.bundle_version == bundle.manifest.version


def test_products_get_the_vectors_of_the_bundle(embedding: Stub, bundle: Bundle) -> None:
    table, rows = bundle.products(), (0, 123, 999)
    products = []
    for row in rows:
        p = table.product(row)
        products.append(
            product_pb2.Product(
                id=p.id, title=p.title, brand=p.brand, category=p.category, attributes=dict(p.attributes)
            )
        )
    answer = embedding.EmbedProducts(embedding_pb2.EmbedProductsRequest(products=products), timeout=5)
    held = np.asarray(bundle.vectors()[list(rows)], np.float32)
    assert (matrix(answer.vectors) * held).sum(1).min() >= SAME_VECTOR_COSINE


def test_half_precision_and_a_matryoshka_prefix(embedding: Stub) -> None:
    full = matrix(embedding.EmbedQueries(embedding_pb2.EmbedQueriesRequest(queries=["red sofa"]), timeout=5).vectors)
    request = embedding_pb2.EmbedQueriesRequest(
        queries=["red sofa"], dimensions=128, encoding=embedding_pb2.VECTOR_ENCODING_FLOAT16
    )
    short = embedding.EmbedQueries(request, timeout=5).vectors
    assert (short.rows, short.dimensions, len(short.data)) == (1, 128, 256)
    prefix = full[:, :128] / np.linalg.norm(full[:, :128])
    assert (matrix(short) * prefix).sum() == pytest.approx(1, abs=2e-3)
