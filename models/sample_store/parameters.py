"""The numbers of the simulated shopping log, in one place, so that a log can state them."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SIZE = 24  # results on a page
MAX_SEARCHES = 6  # in a session
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LogParameters:
    """All that shapes the log beside its sizes, seed and dates. Utilities are in logits. Chosen, not measured."""

    # Who comes
    anonymous_share: float = 0.3  # of sessions
    habitual_share: float = 0.1  # of shoppers
    habitual_activity: float = 14.0  # sessions of a habitual shopper to one of an occasional shopper, in the mean
    activity_spread: float = 0.7  # deviation of the logarithm of the activity within a class
    favourite_department_rate: float = 0.9  # of searches are in one of the shopper's three departments
    another_search_rate: float = 0.5  # after a search, up to MAX_SEARCHES
    same_type_rate: float = 0.7  # of searches after the first are for the session's product type

    # What is searched
    searches_a_query: float = 4.0  # in the mean over the log; decides how many different queries there are
    zipf_exponent: float = 0.8  # of the popularity of a type's queries

    # What is shown: a page is drawn without replacement, in proportion to popularity ** exposure_exponent
    exposure_exponent: float = 0.4
    word_weight: float = 2.5  # of products that hold a word of the query, to 1 of all products of the type
    related_weight: float = 0.08  # of accessories of the type, or of what it is an accessory of
    new_share: float = 0.15  # of products launched within the window

    # What is seen: four results more at a time, and of the seen, those looked at
    depth_shares: tuple[float, ...] = (0.22, 0.22, 0.16, 0.12, 0.10, 0.18)  # seen 4, 8, 12, 16, 20, 24 results
    look_exponent: float = 0.35  # a seen result is looked at with probability position ** -look_exponent

    # What a shopper likes, by how much
    brand_liking: float = 3.0
    style_liking: float = 2.2
    colour_liking: float = 1.2
    audience_liking: float = 1.6
    size_liking: float = 1.2  # clothes and shoes in the shopper's size
    price_dislike: float = 1.0  # for each band away from the shopper's
    second_favourite: float = 0.5  # of what a favourite is worth
    occasional_strength: float = 0.5  # tastes of occasional shoppers to those of habitual ones
    change_days: float = 365.0  # within which each shopper's first favourite brands and styles change, once
    price_drift: float = 1.0  # greatest change of the price band that a shopper looks for, in bands a year

    # What follows
    unasked_penalty: float = 2.2  # for each thing that the query asks for and the product is not
    wrong_type_penalty: float = 4.0
    quality_weight: float = 0.6  # for one deviation of quality
    click_bias: float = -2.2
    cart_bias: float = -2.4
    purchase_bias: float = -1.4
    click_weights: tuple[float, float, float] = (1.0, 1.0, 0.3)  # of fit to the query, taste, quality
    cart_weights: tuple[float, float, float] = (0.7, 0.8, 0.6)
    purchase_weights: tuple[float, float, float] = (0.4, 0.8, 0.5)
