"""The numbers of simulated shopping logs, one class for each family of simulations. `truth.json` holds those of a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field

PAGE_SIZE = 24  # results on a page
MAX_SEARCHES = 6  # in a session
DAY_MS = 86_400_000

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0, le=10_000)]
Weight: TypeAlias = Annotated[float, Field(ge=0, le=100)]
Logits: TypeAlias = Annotated[float, Field(ge=-100, le=100)]
Weights: TypeAlias = tuple[Weight, Weight, Weight]


@dataclass(frozen=True, slots=True)
class SharedParameters:
    """What every family has: shoppers, their sessions and queries, and what a search finds. The values are chosen, not measured."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    # Sessions
    anonymous_share: Annotated[Share, Field(description="of sessions")] = 0.3
    habitual_share: Annotated[Share, Field(description="of shoppers")] = 0.1
    habitual_activity: Annotated[
        Positive, Field(description="mean sessions of a habitual shopper for each session of an occasional shopper")
    ] = 14.0
    activity_spread: Annotated[Weight, Field(description="standard deviation of the log-activity within a class")] = 0.7
    favourite_department_rate: Annotated[
        float, Field(gt=0, le=1, description="of searches are in one of the shopper's three departments")
    ] = 0.9
    another_search_rate: Annotated[float, Field(gt=0, lt=1, description=f"after a search, up to {MAX_SEARCHES}")] = 0.5
    same_type_rate: Annotated[
        Share, Field(description="of searches after the first are for the session's product type")
    ] = 0.7

    # Queries
    searches_a_query: Annotated[
        Positive, Field(description="in the mean over the log; decides the number of different queries")
    ] = 4.0
    zipf_exponent: Annotated[Weight, Field(description="of the popularity of a type's queries")] = 0.8

    # What a search finds, drawn without replacement, in proportion to popularity ** exposure_exponent
    exposure_exponent: Annotated[Weight, Field(description="of popularity")] = 0.4
    word_weight: Annotated[
        Weight, Field(description="of products with a word of the query; the weight of all products of the type is 1")
    ] = 2.5
    related_weight: Annotated[
        Weight, Field(description="of accessories of the type, or of the type that it is an accessory of")
    ] = 0.08
    new_share: Annotated[Share, Field(description="of products launched within the window")] = 0.15

    # Preferences
    second_favourite: Annotated[Share, Field(description="liking of it, relative to the first favourite")] = 0.5
    occasional_strength: Annotated[
        Share, Field(description="of the preferences of occasional shoppers, relative to habitual ones")
    ] = 0.5
    change_days: Annotated[
        Positive, Field(description="in which the first favourite brands and styles of each shopper change once")
    ] = 365.0
    price_drift: Annotated[Weight, Field(description="largest change of the preferred price band, in bands a year")] = (
        1.0
    )


@dataclass(frozen=True, slots=True)
class LogParameters(SharedParameters):
    """The family "additive". Utilities are in logits, and add up."""

    # Examination: shoppers scroll by four results, and examine some of the results that they scroll to
    depth_shares: Annotated[
        tuple[Share, Share, Share, Share, Share, Share],
        Field(description="scroll to 4, 8, 12, 16, 20, 24 results; the sum is 1"),
    ] = (0.22, 0.22, 0.16, 0.12, 0.10, 0.18)
    look_exponent: Annotated[
        Weight, Field(description="a result is examined with probability position ** -look_exponent")
    ] = 0.35

    # Preferences
    brand_liking: Annotated[Logits, Field(description="of a favourite brand")] = 3.0
    style_liking: Annotated[Logits, Field(description="of a favourite style")] = 2.2
    colour_liking: Annotated[Logits, Field(description="of a favourite colour")] = 1.2
    audience_liking: Annotated[Logits, Field(description="of what is made for the like of the shopper")] = 1.6
    size_liking: Annotated[Logits, Field(description="clothes and shoes in the shopper's size")] = 1.2
    price_dislike: Annotated[Logits, Field(description="for each band of distance from the shopper's")] = 1.0

    # Responses. With 2.2, -2.2, -2.4 and (0.4, 0.8, 0.5) shoppers bought what they had not asked for in 15 of 100 purchases after a query
    # that named something, and in 35 of 100 after one that named two; see docs/evaluation.md.
    unasked_penalty: Annotated[
        Logits, Field(description="for each constraint of the query that the product violates")
    ] = 3.5
    wrong_type_penalty: Annotated[Logits, Field(description="for a product of another type")] = 4.0
    quality_weight: Annotated[Logits, Field(description="for one standard deviation of quality")] = 0.6
    click_bias: Annotated[Logits, Field(description="of the click on an examined product")] = -2.12
    cart_bias: Annotated[Logits, Field(description="of the cart after a click")] = -2.35
    purchase_bias: Annotated[Logits, Field(description="of the purchase after a cart")] = -1.4
    click_weights: Annotated[Weights, Field(description="of relevance to the query, preference, quality")] = (
        1.0,
        1.0,
        0.3,
    )
    cart_weights: Annotated[Weights, Field(description="the same, of carts")] = (0.7, 0.8, 0.6)
    purchase_weights: Annotated[Weights, Field(description="the same, of purchases")] = (0.7, 0.8, 0.5)

    def __post_init__(self) -> None:
        if abs(sum(self.depth_shares) - 1) > 1e-6:
            raise ValueError(f"the sum of depth_shares must be 1, not {sum(self.depth_shares):g}")


@dataclass(frozen=True, slots=True)
class CascadeParameters(SharedParameters):
    """The family "cascade". Chances are products of what fits, results are read from the top down, and what happened has consequences."""

    # Reading: from the top down, until the shopper has enough
    patience: Annotated[Share, Field(description="to go on to the next result")] = 0.93
    stop_after_click: Annotated[Share, Field(description="a click was enough")] = 0.3
    stop_after_cart: Annotated[Share, Field(description="what went into the cart was enough")] = 0.8

    # Interest, 0 to 1: the fit with the query times the taste
    unasked_fit: Annotated[
        Share, Field(description="what each constraint that the product violates leaves of the fit")
    ] = 0.06
    wrong_type_fit: Annotated[Share, Field(description="what another type leaves of the fit")] = 0.02
    taste: Annotated[
        Literal["product", "worst"], Field(description='of the matches: their "product", or the "worst" of them')
    ] = "product"
    other_brand: Annotated[
        Share, Field(description="match of a brand that is no favourite; that of a favourite is 1")
    ] = 0.2
    other_style: Annotated[Share, Field(description="the same of styles")] = 0.35
    other_colour: Annotated[Share, Field(description="the same of colours")] = 0.6
    other_audience: Annotated[Share, Field(description="the same of audiences")] = 0.3
    other_size: Annotated[Share, Field(description="match of clothes and shoes in another size")] = 0.4
    other_price: Annotated[
        Share, Field(description="match of a price one band from the shopper's; of two bands, its square")
    ] = 0.55

    # Responses
    click_most: Annotated[Share, Field(description="chance of a click at full interest")] = 0.95
    cart_most: Annotated[Share, Field(description="chance of a cart after it, at full interest and quality")] = 0.9
    purchase_most: Annotated[Share, Field(description="chance of a purchase after it")] = 0.7
    click_without_taste: Annotated[Share, Field(description="of the chance of a click does not depend on taste")] = 0.05
    cart_without_taste: Annotated[Share, Field(description="the same of a cart")] = 0.25
    poor_quality: Annotated[
        Share, Field(description="of the chance of a cart is left at one standard deviation below the mean quality")
    ] = 0.5

    # What was bought before; 0 turns it off
    repeat_rate: Annotated[
        Share, Field(description="sessions that begin with a search for what was last bought, if that is due")
    ] = 0.25
    repeat_days: Annotated[
        tuple[Annotated[float, Field(ge=2)], Annotated[float, Field(le=3650)]],
        Field(description="after a purchase in which the same product is due"),
    ] = (5.0, 30.0)
    repeat_interest: Annotated[Share, Field(description="least taste for a product that is due")] = 0.9
    complement_rate: Annotated[
        Share, Field(description="sessions that begin with a search for what goes with the last purchase")
    ] = 0.25
    complement_days: Annotated[
        tuple[Annotated[float, Field(ge=2)], Annotated[float, Field(le=3650)]],
        Field(description="after a purchase in which shoppers look for accessories of it"),
    ] = (2.0, 20.0)
    complement_interest: Annotated[
        Share, Field(description="least taste for an accessory of the same brand as what was bought")
    ] = 0.8

    # Stock: a product can run out once in each cycle, those of a higher demand more often
    out_rate: Annotated[Share, Field(description="of cycles in which a product runs out, in the mean; 0: never")] = 0.25
    cycle_days: Annotated[Positive, Field(description="length of a cycle")] = 20.0
    out_days: Annotated[Positive, Field(description="without stock; at most half a cycle")] = 5.0

    # Pages, sorted by an earlier model that learned from clicks
    learned_every_days: Annotated[
        float, Field(ge=1, le=3650, description="the model learns anew, from all clicks until two days before")
    ] = 7.0
    click_exponent: Annotated[
        Weight, Field(description="demand grows with (1 + clicks) ** click_exponent; 0: the model ignores clicks")
    ] = 0.3
    match_weight: Annotated[
        Weight, Field(description="of a word of the query that a product holds, in the order, in logs of demand")
    ] = 2.0

    def __post_init__(self) -> None:
        for name in ("repeat_days", "complement_days"):
            first, last = getattr(self, name)
            if first >= last:
                raise ValueError(f"{name} must be [first day, last day], not [{first:g}, {last:g}]")
        if self.out_days > self.cycle_days / 2:
            raise ValueError(
                f"out_days is {self.out_days:g}; it must be at most half of cycle_days, {self.cycle_days:g}"
            )
