"""How shoppers of the sample store ask for a product: in their own words, for some of what it is, at times misspelt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.draws import Draws
from models.sample_store.latents import ProductLatent
from models.sample_store.product_types import PRODUCT_TYPES, ProductType
from models.sample_store.vocabulary import AUDIENCES, BRANDS, COLOURS, MATERIALS, PRICE_WORDS, STYLES, Word
from models.sample_store.wording import model_code
from models.typing_errors import misspell

TYPO_RATE = 0.05  # of queries without a model number
SHOPPER_NOUN_RATE = 0.6  # otherwise the shopper happens to use the noun of the product's seller
SHOPPER_WORD_RATE = 0.5  # the same for colours, materials and so on

# Of 100 queries, those that ask for the type and ...
_NOTHING_MORE = 30
_ONE_ATTRIBUTE = 30
_TWO_ATTRIBUTES = 16
_THE_BRAND = 10
_A_PRICE = 5
_A_USE = 5
# ... and the rest for a model number, or for the brand where there is none.

_GOES_LAST = (
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


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """A query and what its shopper wants."""

    text: str
    type: int  # index of the wanted PRODUCT_TYPES
    product: int  # number of the product that the shopper had in mind
    asks: Mapping[
        str, str
    ]  # what must hold, in the seller's words: "brand", "price_band" or an attribute's name -> value
    has_typo: bool = False


def write_query(product: int, latent: ProductLatent, draws: Draws) -> SampleQuery:
    """A query for a product, or for products like it."""
    form = draws.below(100)
    wanted = _Wanted(PRODUCT_TYPES[latent.type], latent, draws)
    if form < _NOTHING_MORE:
        wanted.ask_attributes(0)
    elif (form := form - _NOTHING_MORE) < _ONE_ATTRIBUTE:
        wanted.ask_attributes(1)
    elif (form := form - _ONE_ATTRIBUTE) < _TWO_ATTRIBUTES:
        wanted.ask_attributes(2)
    elif (form := form - _TWO_ATTRIBUTES) < _THE_BRAND:
        wanted.ask_brand()
    elif (form := form - _THE_BRAND) < _A_PRICE:
        wanted.ask_price()
    elif form - _A_PRICE < _A_USE:
        wanted.ask_use()
    else:
        wanted.ask_model()
    text = " ".join(wanted.words)
    has_typo = "model" not in wanted.asks and draws.chance(TYPO_RATE)
    return SampleQuery(
        text=misspell(text, draws) if has_typo else text,
        type=latent.type,
        product=product,
        asks=wanted.asks,
        has_typo=has_typo,
    )


class _Wanted:
    """A query in the making: its words in order and what they ask for."""

    def __init__(self, kind: ProductType, latent: ProductLatent, draws: Draws) -> None:
        self._kind, self._latent, self._draws = kind, latent, draws
        of_shopper = draws.chance(SHOPPER_NOUN_RATE)
        noun = draws.pick(kind.shopper_nouns) if of_shopper else kind.nouns[latent.noun].lower()
        self.words = [noun]
        self.asks: dict[str, str] = {}

    def ask_attributes(self, count: int) -> None:
        known = _known_words(self._kind, self._latent)
        for _ in range(min(count, len(known))):
            name = self._draws.pick(tuple(known))
            word = known.pop(name)
            self.asks[name] = word.seller
            is_code = len(word.seller) <= 2  # nobody asks for an "s hoodie"
            of_shopper = bool(word.shopper) and (is_code or self._draws.chance(SHOPPER_WORD_RATE))
            self._add(self._draws.pick(word.shopper) if of_shopper else word.seller.lower(), name == "feature")

    def ask_brand(self) -> None:
        brand = BRANDS[self._latent.brand].name
        self.asks["brand"] = brand
        self._add(brand.lower(), is_last=False)

    def ask_price(self) -> None:
        said = PRICE_WORDS[self._latent.price_band]
        if said:
            self.asks["price_band"] = str(self._latent.price_band)
            self._add(self._draws.pick(said), is_last=False)

    def ask_use(self) -> None:
        self._add(f"for {self._draws.pick(self._kind.uses).lower()}", is_last=True)

    def ask_model(self) -> None:
        code = model_code(self._latent)
        if code:
            self.asks["model"] = code
            said = code.lower() if self._draws.chance(0.5) else code.lower().replace("-", "")
            self.words = [said]
        if not code or self._draws.chance(0.5):
            self.ask_brand()

    def _add(self, said: str, is_last: bool) -> None:
        if is_last or said.startswith(_GOES_LAST) or self._draws.chance(0.15):
            self.words.append(said)
        else:
            self.words.insert(0, said)


def _known_words(kind: ProductType, latent: ProductLatent) -> dict[str, Word]:
    """The product's attributes that it has, as words."""
    places: tuple[tuple[str, Sequence[Word], int], ...] = (
        ("colour", COLOURS, latent.colour),
        ("material", MATERIALS, latent.material),
        ("style", STYLES, latent.style),
        ("size", kind.sizes, latent.size),
        ("feature", kind.features, latent.feature),
        ("audience", AUDIENCES, latent.audience),
    )
    return {name: words[at] for name, words, at in places if at >= 0}
