"""The numbers of the simulated storefronts, and how many searches each locale has unless a caller says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from models.sample_store.locales.spoken import all_locales


@dataclass(frozen=True, slots=True)
class StorefrontParameters:
    """All that shapes the searches of a storefront beside volumes, seed and dates. Chosen, not measured."""

    zipf_exponent: float = 0.7  # of the popularity of a locale's wishes
    another_search_rate: float = 0.4  # after a search of a session
    anonymous_share: float = 0.4  # of sessions
    searches_a_shopper: float = 12.0  # in the mean; a few shoppers search most

    # Where a click goes
    another_click_rate: float = 0.3  # after a click of a search
    wanted_share: float = 0.86  # of clicks: a product of the wanted type
    related_share: float = (
        0.05  # an accessory of the type, or what it is an accessory of; where there is none, any product
    )
    word_share: float = (
        0.6  # of clicks on the wanted type: a product that has the colour, material or brand that was named
    )

    # What follows from a click on the wanted type, and on another
    cart_rates: tuple[float, float] = (0.20, 0.08)
    purchase_rates: tuple[float, float] = (0.35, 0.20)  # of what is in the cart


def default_volumes(num_searches: int) -> dict[str, int]:
    """About `num_searches` searches divided over all locales but the main one, very unequally: see `spoken`."""
    shares = {name: locale.share for name, locale in all_locales().items() if locale.share}
    total = sum(shares.values())
    return {name: max(1, round(num_searches * share / total)) for name, share in shares.items()}
