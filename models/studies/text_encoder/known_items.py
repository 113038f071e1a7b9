"""Known-item search on a catalogue without queries: each query is *derived* from a product's title, and that product is the target.

Derived queries are not real: they show whether an encoder finds a product by some of its words, a misspelt brand or synonyms, but not what
shoppers want. One recipe per query, drawn evenly among those that a title allows:

- *words dropped*: two to four words of the title, in order;
- *brand misspelt*: the brand with one typing error, and up to three other words;
- *synonyms*: words of the title are replaced by those of SYNONYMS, and up to three other words stay;
- *without the brand*: up to four words outside the brand.

Products whose titles have the same words are the same item: each of them is correct.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from models.draws import Draws
from models.evaluation.buckets import Bucket
from models.products.product import Product, product_text
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool, Protocol
from models.studies.text_encoder.wording import form_of
from models.typing_errors import misspell

# Synonyms in electronics and furnishings, written for this study. Phrases precede the words that they contain.
SYNONYMS = {
    "hard drive": "hard disk", "flash drive": "usb stick", "video game": "computer game", "cell phone": "mobile phone",
    "cell phones": "mobile phones", "digital camera": "photo camera", "video camera": "camcorder", "ink cartridge": "printer ink",
    "screen protector": "display film", "power supply": "power adapter", "remote control": "clicker",
    "television": "tv", "tv": "television", "hdtv": "television", "laptop": "notebook", "laptops": "notebooks",
    "notebook": "laptop", "headphones": "earphones", "earbuds": "in-ear headphones", "headset": "headphones with microphone",
    "refrigerator": "fridge", "freezer": "deep freeze", "stove": "cooker", "range": "cooker", "washer": "washing machine",
    "dryer": "tumble dryer", "vacuum": "hoover", "camcorder": "video camera", "monitor": "computer screen",
    "display": "screen", "speaker": "loudspeaker", "speakers": "loudspeakers", "subwoofer": "bass speaker",
    "stereo": "hi-fi", "receiver": "amplifier", "gps": "sat nav", "charger": "power adapter", "adapter": "converter",
    "cable": "cord", "cord": "cable", "case": "cover", "cover": "case", "sleeve": "pouch", "bag": "carrier", "backpack": "rucksack",
    "mount": "bracket", "stand": "holder", "mouse": "computer mouse", "keyboard": "keypad", "memory": "ram",
    "desktop": "tower pc", "router": "wifi box", "wireless": "cordless", "cordless": "wireless", "battery": "rechargeable cell",
    "flash": "camera light", "lens": "objective", "tripod": "three-leg stand", "toner": "laser ink", "turntable": "record player",
    "sofa": "couch", "couch": "sofa", "rug": "carpet", "lamp": "light", "dresser": "chest of drawers", "wardrobe": "closet",
}  # fmt: skip

RECIPES = ("words dropped", "brand misspelt", "synonyms", "without the brand")

_MIN_WORDS, _MAX_WORDS = 3, 24  # of titles from which queries are derived
_WORD = re.compile(r"[^\W_][\w.'+-]*")


def known_items(
    products: Sequence[Product],
    *,
    name: str = "",
    num_queries: int = 2_000,
    text_fields: Sequence[str] = (),
    seed: int = 0,
) -> JudgedSet:
    """Derives `num_queries` queries (fewer in a small catalogue), each from a different item.

    Raises JudgedSetError if no title has the three words that are needed.
    """
    rng = np.random.default_rng([seed, 0x1D])
    draws = Draws(seed ^ 0x1D)
    items: dict[str, list[int]] = defaultdict(list)
    for row, product in enumerate(products):
        items[form_of(product.title)].append(row)
    rows = [group[0] for group in items.values() if _MIN_WORDS <= len(_words(products[group[0]].title)) <= _MAX_WORDS]
    if not rows:
        raise JudgedSetError(f"no title has {_MIN_WORDS} to {_MAX_WORDS} words, so no query can be derived")
    queries: list[str] = []
    recipes: list[int] = []
    targets: list[list[int]] = []
    for row in rng.permutation(rows).tolist():
        if len(queries) == num_queries:
            break
        derived = derive_query(products[row], rng, draws)
        if derived is None:
            continue
        queries.append(derived[0])
        recipes.append(RECIPES.index(derived[1]))
        targets.append(items[form_of(products[row].title)])
    if not queries:
        raise JudgedSetError("no query could be derived from any title")
    judged = np.array([(query, row) for query, group in enumerate(targets) for row in group], np.int64)
    protocol = Protocol(
        {"the item": 1.0},
        ("the item",),
        Pool.CATALOGUE,
        mrr_at=10,
        ks=(10, 100),
        split=f"{len(queries):,} queries derived from titles, seed {seed}",
        text="title, brand, category" + "".join(f", {field}" for field in text_fields),
        source="Derived queries: no shopper typed them.",
    )
    return JudgedSet.from_judgements(
        f"known items{' of ' + name if name else ''}, derived queries",
        protocol,
        queries,
        [product_text(product, text_fields) for product in products],
        (judged[:, 0], judged[:, 1], np.zeros(len(judged), np.int32)),
        query_buckets={"recipe": Bucket(RECIPES, np.array(recipes, np.int32))},
    )


def derive_query(product: Product, rng: np.random.Generator, draws: Draws) -> tuple[str, str] | None:
    """Returns a query for a product and its recipe; None if no recipe fits."""
    title = " ".join(_words(product.title))
    brand = " ".join(_words(product.brand))
    rest = [word for word in title.split() if word not in brand.split()]
    written: dict[str, Callable[[], str]] = {
        "words dropped": lambda: _sample(title.split(), int(rng.integers(2, 5)), rng)
    }
    if brand and len(rest) >= 2:
        written["brand misspelt"] = lambda: f"{misspell(brand, draws)} {_sample(rest, 3, rng)}"
        written["without the brand"] = lambda: _sample(rest, 4, rng)
    if replaced := _synonyms(title):
        others = [word for word in rest if word not in " ".join(replaced).split()]
        written["synonyms"] = lambda: " ".join([*_sample(others, 3, rng).split(), *replaced.values()])
    recipe = sorted(written)[int(rng.integers(len(written)))]
    query = written[recipe]()
    return (query, recipe) if len(query.split()) >= 2 else None


def _synonyms(title: str) -> dict[str, str]:
    """Returns words of the title -> synonyms, at most two, the longest phrases first."""
    replaced: dict[str, str] = {}
    left = f" {title} "
    for phrase, other in SYNONYMS.items():
        if f" {phrase} " in left and len(replaced) < 2 and f" {other} " not in f" {title} ":
            replaced[phrase] = other
            left = left.replace(f" {phrase} ", " | ")
    return replaced


def _sample(words: Sequence[str], count: int, rng: np.random.Generator) -> str:
    """Returns `count` random words, or all, in their order."""
    at = sorted(rng.choice(len(words), min(count, len(words)), replace=False).tolist()) if words else []
    return " ".join(words[position] for position in at)


def _words(text: str) -> list[str]:
    """Returns the words in lower case, without single letters and punctuation."""
    return [word for word in _WORD.findall(text.lower()) if len(word) > 1]
