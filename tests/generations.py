"""Changes of a catalogue at random, and what a generation that holds them must be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bundle_parts import PARTS, verify_bundle
from models.bundles.bundle import Bundle
from models.products.product import Product
from models.ranking.column_files import COLUMNS_PART
from serving.catalogue.change import Change, ChangeBatch, Delete, Offer, Upsert
from serving.catalogue.log import ChangeLog
from serving.catalogue.open_catalogue import Catalogue

COLOURS = ("red", "Red", "blue", "grün", "ultraviolet")
NOUNS = ("sofa", "lamp", "rug", "café table", "armchair")
PATHS = ("Home > Sofas", "home > SOFAS", "Garden", "")


def random_product(rng: random.Random, product_id: str) -> Product:
    """A product with attributes of every type, among them values that cannot be read and names that are new."""
    tags = tuple(rng.sample(COLOURS, rng.randrange(4)))
    texts = {
        "colour": rng.choice((*COLOURS, "")),
        "tags": "|".join(tags),
        "size": rng.choice(("1 cm", "2 in", "-3", "0.5 m", "1.234", "unknown", "")),
        "released": rng.choice(("2024-01-05", "2024-03-01T10:20:30Z", "04/05/2024", "")),
        "vegan": rng.choice(("yes", "no", "")),
        "mpn": f"QX-{rng.randrange(100, 999)}",
        "care": rng.choice(("wipe with a cloth", "")),
        f"key {rng.randrange(6)}": rng.choice(("x", "")),
    }
    return Product(
        product_id,
        f"{rng.choice(COLOURS)} {rng.choice(NOUNS)} HX-{rng.randrange(100, 120)}",
        rng.choice(("Halden", "Nord", "")),
        rng.choice(PATHS),
        rng.choice((None, 0, 499, 19_900)),
        rng.random() < 0.7,
        {name: text for name, text in texts.items() if text},
        tuple(rng.sample(PATHS[:3], rng.choice((0, 0, 1)))),
    )


def random_changes(rng: random.Random, ids: Sequence[str], count: int) -> list[Change]:
    """Changes of products with these ids, and of some that are not there."""
    changes: list[Change] = []
    for number in range(count):
        product_id = rng.choice((*ids, f"new-{number}"))
        kind = rng.random()
        if kind < 0.5:
            changes.append(Upsert(random_product(rng, product_id)))
        elif kind < 0.7:
            changes.append(Delete(product_id))
        else:
            changes.append(Offer(product_id=product_id, price_minor=rng.randrange(30_000), in_stock=rng.random() < 0.5))
    return changes


def logged(log: ChangeLog, changes: Sequence[Change], bundle: Bundle, seed: int = 0) -> None:
    asyncio.run(append(log, changes, bundle, seed))


async def append(log: ChangeLog, changes: Sequence[Change], bundle: Bundle, seed: int = 0) -> None:
    """Logs changes in batches of ten, with random vectors."""
    rng, dim, encoder = np.random.default_rng(seed), bundle.manifest.dim, bundle.manifest.encoder_version
    for start in range(0, len(changes), 10):
        part = tuple(changes[start : start + 10])
        vectors = rng.normal(size=(sum(isinstance(one, Upsert) for one in part), dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await log.append(ChangeBatch(changes=part, vectors=vectors.astype(np.float16), encoder=encoder))


@dataclass(frozen=True)
class Values:
    """What products have of each typed attribute."""

    kinds: dict[str, tuple[str, str]]  # type and unit
    by_id: dict[str, dict[str, set[object]]]


def values_of(catalogue: Catalogue, names: Sequence[str]) -> Values:
    rows = np.flatnonzero(catalogue.table.alive)
    ids = [catalogue.table.id(row) for row in rows.tolist()]
    by_id: dict[str, dict[str, set[object]]] = {product_id: {} for product_id in ids}
    for name in names:
        column = catalogue.attributes[name]
        for at, number in column.values_of(rows):
            value = column.value(number)
            by_id[ids[at]].setdefault(name, set()).add(value.casefold() if isinstance(value, str) else value)
    kinds = {name: (str(catalogue.attributes[name].type), catalogue.attributes[name].unit) for name in names}
    return Values(kinds, by_id)


def assert_holds(folder: Path, live: Catalogue) -> None:
    """The bundle is what the catalogue is after its changes."""
    bundle, before = Bundle(folder), live.bundle
    verify_bundle(bundle)
    after = Catalogue.open(bundle)
    rows = np.flatnonzero(live.table.alive)
    products = [live.table.product(row) for row in rows.tolist()]
    assert list(after.table.products()) == products
    assert (bundle.manifest.sequence, bundle.manifest.line) == (live.live.sequence, before.manifest.line)
    assert (after.live.unit_vectors(np.arange(len(rows))) == live.live.unit_vectors(rows)).all()
    names = list(live.attributes)
    assert values_of(after, names) == values_of(live, names)
    assert set(after.table.attributes) == {name for product in products for name in product.attributes} | set(
        live.table.plain_attributes
    )
    lexical = before.lexical()
    assert lexical
    assert live.lexical
    assert after.lexical
    # An attribute that is new gets its field from all of its cells; before it had one from the first.
    as_before = [lexical.attributes.keys() >= product.attributes.keys() for product in products]
    assert sum(as_before) > len(products) / 2
    for query in (*COLOURS, *NOUNS, "halden sofa hx-104", "wipe cloth", "qx-345", "home sofas"):
        then = after.lexical.match(after.lexical.query(query), np.arange(len(rows)))
        now = live.lexical.match(live.lexical.query(query), rows)
        np.testing.assert_allclose(then.scores[as_before], now.scores[as_before], rtol=1e-6)
        np.testing.assert_allclose(then.coverage[as_before], now.coverage[as_before], rtol=1e-6)
    for product in products:
        for text in (product.id, product.title, product.attributes.get("mpn", "")):
            assert identified(after, text) == identified(live, text)
    assert_keeps_models(before, bundle)


def identified(catalogue: Catalogue, text: str) -> list[tuple[str, list[str]]]:
    return [
        (match.identifier, [catalogue.table.id(row) for row in match.rows.tolist()])
        for match in catalogue.identifiers.find(text)
    ]


def assert_keeps_models(before: Bundle, after: Bundle) -> None:
    assert after.manifest.encoder_version == before.manifest.encoder_version
    for name in ("encoder", "boosts", "query_types", "ranker", "locales", "text_attributes", "recipe", "dim"):
        assert getattr(after.manifest, name) == getattr(before.manifest, name), name
    parts = tuple(f"{part.name}/" for part in PARTS if part is not COLUMNS_PART)
    kept = [name for name in before.manifest.files if name.startswith(parts)]
    assert kept == [name for name in after.manifest.files if name.startswith(parts)]
    assert all((before.folder / name).samefile(after.folder / name) for name in kept)
