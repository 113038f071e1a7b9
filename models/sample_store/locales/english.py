"""American English, the language of the catalogue: its words are those of the product types and attributes."""

from __future__ import annotations

from models.sample_store.locales.inflection import UNINFLECTED
from models.sample_store.locales.language import Language, Noun, QueryField
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.words import load_words


def american_english(*, inch: str, before_noun: frozenset[QueryField]) -> Language:
    """Returns the language with the words of the catalogue."""
    words = load_words()
    return Language(
        code="en",
        nouns={kind.name: _nouns(kind) for kind in load_product_types()},
        colours={word.seller: (word.seller.lower(), *word.shopper) for word in words.colours},
        materials={word.seller: (word.seller.lower(),) for word in words.materials},
        audiences={word.seller: word.shopper or (word.seller.lower(),) for word in words.audiences},
        price_words=words.price,
        inch=inch,
        before_noun=before_noun,
        plain_letters={},
        invariable=frozenset(),
        inflection=UNINFLECTED,
    )


def _nouns(kind: ProductType) -> tuple[Noun, ...]:
    """Returns the sellers' most common noun, then the shoppers' nouns, then the other nouns of sellers."""
    first, *others = (noun.lower() for noun in kind.nouns)
    return tuple(Noun(noun) for noun in (first, *kind.shopper_nouns, *others))
