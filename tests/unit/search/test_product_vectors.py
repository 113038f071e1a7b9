"""Products are encoded as a build encodes them, and a call's products are admitted together."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.product_rows import ProductRows
from models.products.product import Product
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import EncoderSpec, Text
from serving.errors import DeadlineExceeded
from serving.search.product_vectors import PRODUCT_COST, TextProducts, TowerProducts
from serving.search.readers import TextStage
from tests.fake_stage import FakeStage
from tests.unit.search.conftest import MakePipeline


def soon() -> float:
    return time.monotonic() + 300


def real_encoder(bundle: Bundle) -> FakeStage[Text, Floats]:
    encoder = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu", 1)
    return FakeStage(lambda text: encoder.encode([text])[0])


async def test_a_text_encoder_gives_the_rows_of_the_bundle(bundle: Bundle) -> None:
    products = list(bundle.products().products())
    texts = TextStage(real_encoder(bundle), EncoderSpec(**bundle.manifest.encoder))
    vectors = await TextProducts(texts, bundle.manifest.text_attributes).embed(products, soon())
    rows = ProductRows(bundle).rows(products, vectors)
    assert (rows.dtype, rows.shape) == (np.float16, bundle.vectors().shape)
    np.testing.assert_allclose(rows.astype(np.float32), bundle.vectors().astype(np.float32), atol=2e-3)
    assert ProductRows(bundle).features(products).shape == (len(products), 0)


async def test_a_tower_gets_the_products_themselves() -> None:
    stage: FakeStage[Product, Floats] = FakeStage(lambda product: np.full(3, len(product.title), np.float32))
    products = [Product("1", "a"), Product("2", "abc")]
    vectors = await TowerProducts(stage, 7).embed(products, soon())
    np.testing.assert_array_equal(vectors, [[1, 1, 1], [3, 3, 3]])
    assert stage.items == products


async def test_a_call_that_is_too_late_costs_no_product() -> None:
    stage: FakeStage[Product, Floats] = FakeStage(lambda _: np.zeros(3, np.float32))
    with pytest.raises(DeadlineExceeded):
        await TowerProducts(stage, 1).embed([Product("1", "a")], time.monotonic() - 1)
    assert stage.items == []


async def test_products_are_a_stage_of_a_text_encoder_and_wait_for_it(
    make_pipeline: MakePipeline, lamp_encoder: FakeStage[Text, Floats], shop_bundle: Path
) -> None:
    pipeline = make_pipeline(lamp_encoder, FakeStage(lambda _: None))  # type: ignore[arg-type,return-value]
    assert pipeline.product_stages == pipeline.embedding_stages
    assert len(pipeline.stages) == 2
    vectors = await pipeline.embed_products(list(Bundle(shop_bundle).products().products(0, 3)), soon())
    assert len(vectors) == 3
    assert PRODUCT_COST > 1
