"""The numbers of the simulated storefronts, and the default number of searches of each locale."""

from __future__ import annotations

from dataclasses import dataclass

from models.sample_store.locales.read_locales import all_locales


@dataclass(frozen=True, slots=True)
class StorefrontParameters:
    """All that shapes the searches of a storefront except volumes, seed and dates. The values are chosen, not measured."""

    zipf_exponent: float = 0.7  # of the popularity of a locale's queries
    another_search_rate: float = 0.4  # after a search of a session
    anonymous_share: float = 0.4  # of sessions
    searches_a_shopper: float = 12.0  # in the mean; a few shoppers search most

    # Clicks
    another_click_rate: float = 0.3  # after a click of a search
    wanted_share: float = 0.86  # of clicks are on products of the target type
    related_share: float = 0.05  # are on an accessory of it, or on what it is an accessory of, or else on any product
    word_share: float = 0.6  # of clicks on the target type are on products that satisfy the query's constraint

    # After a click on the target type, and on another
    cart_rates: tuple[float, float] = (0.20, 0.08)
    purchase_rates: tuple[float, float] = (0.35, 0.20)  # of carts


def default_volumes(num_searches: int) -> dict[str, int]:
    """Divides about `num_searches` searches over all locales except the main one, by their unequal shares."""
    shares = {name: locale.share for name, locale in all_locales().items() if locale.share}
    total = sum(shares.values())
    return {name: max(1, round(num_searches * share / total)) for name, share in shares.items()}
