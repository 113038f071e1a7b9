"""The queries that shoppers write for a product: in their own words, for some of its attributes, at times misspelt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.draws import Draws
from models.sample_store.brands import load_brands
from models.sample_store.latents import ProductLatent
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.wording import model_code
from models.sample_store.words import Word, load_words
from models.typing_errors import misspell

TYPO_RATE = 0.05  # of queries without a model number
SHOPPER_NOUN_RATE = 0.6  # of nouns; the others are the noun of the product's seller
SHOPPER_WORD_RATE = 0.5  # of colours, materials and so on

# Of 100 queries, those for the type and ...
_NOTHING_MORE = 30
_ONE_ATTRIBUTE = 30
_TWO_ATTRIBUTES = 16
_THE_BRAND = 10
_A_PRICE = 5
_A_USE = 5
# ... and the rest for a model number, or for the brand of a type without model numbers.

_LAST_WORDS = (
    "for ",
    "with ",
    "in ",
    "seats ",
    "service ",
    "to ",
    "does ",
    "keeps ",
    "no ",
    "set of ",
    "goes ",
    "makes ",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuery:
    """A query and what its shopper is searching for."""

    text: str
    type: int  # index of the target in load_product_types()
    product: int  # number of the product that the query was written for
    # "brand", "price_band", "model" or an attribute's name -> the value that satisfies it, in the seller's words
    constraints: Mapping[str, str]
    has_typo: bool = False


def write_query(product: int, latent: ProductLatent, draws: Draws) -> SampleQuery:
    """Writes a query for a product, or for products like it."""
    form = draws.below(100)
    query = _QueryWriter(load_product_types()[latent.type], latent, draws)
    if form < _NOTHING_MORE:
        query.add_attributes(0)
    elif (form := form - _NOTHING_MORE) < _ONE_ATTRIBUTE:
        query.add_attributes(1)
    elif (form := form - _ONE_ATTRIBUTE) < _TWO_ATTRIBUTES:
        query.add_attributes(2)
    elif (form := form - _TWO_ATTRIBUTES) < _THE_BRAND:
        query.add_brand()
    elif (form := form - _THE_BRAND) < _A_PRICE:
        query.add_price()
    elif form - _A_PRICE < _A_USE:
        query.add_use()
    else:
        query.add_model()
    text = " ".join(query.words)
    has_typo = "model" not in query.constraints and draws.chance(TYPO_RATE)
    return SampleQuery(
        text=misspell(text, draws) if has_typo else text,
        type=latent.type,
        product=product,
        constraints=query.constraints,
        has_typo=has_typo,
    )


class _QueryWriter:
    """A query in the making: its words in order and its constraints."""

    def __init__(self, kind: ProductType, latent: ProductLatent, draws: Draws) -> None:
        self._kind, self._latent, self._draws = kind, latent, draws
        is_shoppers_noun = draws.chance(SHOPPER_NOUN_RATE)
        noun = draws.pick(kind.shopper_nouns) if is_shoppers_noun else kind.nouns[latent.noun].lower()
        self.words = [noun]
        self.constraints: dict[str, str] = {}

    def add_attributes(self, count: int) -> None:
        words = _attribute_words(self._kind, self._latent)
        for _ in range(min(count, len(words))):
            name = self._draws.pick(tuple(words))
            word = words.pop(name)
            self.constraints[name] = word.seller
            is_code = len(word.seller) <= 2  # nobody searches for an "s hoodie"
            is_shoppers_word = bool(word.shopper) and (is_code or self._draws.chance(SHOPPER_WORD_RATE))
            text = self._draws.pick(word.shopper) if is_shoppers_word else word.seller.lower()
            self._add(text, is_last=name == "feature")

    def add_brand(self) -> None:
        brand = load_brands()[self._latent.brand].name
        self.constraints["brand"] = brand
        self._add(brand.lower(), is_last=False)

    def add_price(self) -> None:
        price_words = load_words().price[self._latent.price_band]
        if price_words:
            self.constraints["price_band"] = str(self._latent.price_band)
            self._add(self._draws.pick(price_words), is_last=False)

    def add_use(self) -> None:
        self._add(f"for {self._draws.pick(self._kind.uses).lower()}", is_last=True)

    def add_model(self) -> None:
        code = model_code(self._latent)
        if code:
            self.constraints["model"] = code
            self.words = [code.lower() if self._draws.chance(0.5) else code.lower().replace("-", "")]
        if not code or self._draws.chance(0.5):
            self.add_brand()

    def _add(self, text: str, *, is_last: bool) -> None:
        if is_last or text.startswith(_LAST_WORDS) or self._draws.chance(0.15):
            self.words.append(text)
        else:
            self.words.insert(0, text)


def _attribute_words(kind: ProductType, latent: ProductLatent) -> dict[str, Word]:
    """Returns the attributes that the product has, by name."""
    words = load_words()
    attributes: tuple[tuple[str, Sequence[Word], int], ...] = (
        ("colour", words.colours, latent.colour),
        ("material", words.materials, latent.material),
        ("style", words.styles, latent.style),
        ("size", kind.sizes, latent.size),
        ("feature", kind.features, latent.feature),
        ("audience", words.audiences, latent.audience),
    )
    return {name: choices[at] for name, choices, at in attributes if at >= 0}
