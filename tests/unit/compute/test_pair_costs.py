"""The costs of pairs of a catalogue that changed are those of one that is read anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.product import Product
from models.ranking.teacher.fields import Field
from models.ranking.teacher.pair_tokens import TextSpec
from serving.compute.retrieval import GivenCandidates
from serving.compute.teacher import PairCosts

NO_VECTORS = np.zeros((0, 0), np.float16)


def test_costs_follow_the_catalogue(
    build_tiny: Callable[..., Manifest], shop_bundle: Path, shop: list[Product], tmp_path: Path
) -> None:
    fields = tuple(Field(name, 8) for name in ("title", "brand", "price_minor", "attributes.care", "attributes.gone"))
    TextSpec(fields, (), 16, 0, 1, 2, 2).save(tmp_path)
    new = [
        Product("B-1", "Grüner Sessel mit langem Namen", "Nord", "", 500, True, {"care": "wipe with a cloth"}),
        Product("B-2", "", "", "", None, True),
    ]
    unpriced, priced = replace(shop[0], price_minor=None), replace(new[1], price_minor=100)
    costs = PairCosts(tmp_path, Bundle(shop_bundle).products())
    costs.append(AddedProducts(6, new, NO_VECTORS))
    costs.remove(RemovedProducts(np.array([4]), [shop[4]]))
    costs.change_offers(ChangedOffers(np.array([7, 0]), [priced, unpriced], NO_VECTORS))
    final = [unpriced, *shop[1:], new[0], priced]
    build_tiny(tmp_path / "final", [one if one.title else replace(one, title="?") for one in final])
    expected = PairCosts(tmp_path, Bundle(tmp_path / "final").products())
    found = costs.of("sofa", GivenCandidates(np.arange(8)))
    wanted = expected.of("sofa", GivenCandidates(np.arange(8)))
    assert found[:7].tolist() == wanted[:7].tolist()
    assert costs.of("sofa", GivenCandidates(np.zeros(0, np.int64), tuple(final))).tolist() == found.tolist()
