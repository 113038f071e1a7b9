"""The numbers of the simulated shopping log, in one place, so that `truth.json` can hold them."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SIZE = 24  # results on a page
MAX_SEARCHES = 6  # in a session
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LogParameters:
    """All that shapes the log except its sizes, seed and dates. Utilities are in logits. The values are chosen, not measured."""

    # Sessions
    anonymous_share: float = 0.3  # of sessions
    habitual_share: float = 0.1  # of shoppers
    habitual_activity: float = 14.0  # mean sessions of a habitual shopper for each session of an occasional shopper
    activity_spread: float = 0.7  # standard deviation of the log-activity within a class
    favourite_department_rate: float = 0.9  # of searches are in one of the shopper's three departments
    another_search_rate: float = 0.5  # after a search, up to MAX_SEARCHES
    same_type_rate: float = 0.7  # of searches after the first are for the session's product type

    # Queries
    searches_a_query: float = 4.0  # in the mean over the log; decides the number of different queries
    zipf_exponent: float = 0.8  # of the popularity of a type's queries

    # Result pages, drawn without replacement, in proportion to popularity ** exposure_exponent
    exposure_exponent: float = 0.4
    word_weight: float = 2.5  # of products with a word of the query; the weight of all products of the type is 1
    related_weight: float = 0.08  # of accessories of the type, or of the type that it is an accessory of
    new_share: float = 0.15  # of products launched within the window

    # Examination: shoppers scroll by four results, and examine some of the results that they scroll to
    depth_shares: tuple[float, ...] = (0.22, 0.22, 0.16, 0.12, 0.10, 0.18)  # scroll to 4, 8, 12, 16, 20, 24 results
    look_exponent: float = 0.35  # a result is examined with probability position ** -look_exponent

    # Preferences
    brand_liking: float = 3.0
    style_liking: float = 2.2
    colour_liking: float = 1.2
    audience_liking: float = 1.6
    size_liking: float = 1.2  # clothes and shoes in the shopper's size
    price_dislike: float = 1.0  # for each band of distance from the shopper's
    second_favourite: float = 0.5  # relative to the first favourite
    occasional_strength: float = 0.5  # of the preferences of occasional shoppers, relative to habitual ones
    change_days: float = 365.0  # in which the first favourite brands and styles of each shopper change once
    price_drift: float = 1.0  # largest change of the preferred price band, in bands a year

    # Responses
    unasked_penalty: float = 2.2  # for each constraint of the query that the product violates
    wrong_type_penalty: float = 4.0
    quality_weight: float = 0.6  # for one standard deviation of quality
    click_bias: float = -2.2
    cart_bias: float = -2.4
    purchase_bias: float = -1.4
    click_weights: tuple[float, float, float] = (1.0, 1.0, 0.3)  # of relevance to the query, preference, quality
    cart_weights: tuple[float, float, float] = (0.7, 0.8, 0.6)
    purchase_weights: tuple[float, float, float] = (0.4, 0.8, 0.5)
