"""The matrix of needs: what a shop may lack, what each stage does then, and what would mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.needs.shop_facts import ShopFacts

TEXT, UNIFIED, TYPES, TEACHER, RANKER, REPORT, REFIT = STAGES = (
    "text-encoder",
    "unified",
    "types",
    "teacher",
    "ranker",
    "report",
    "refit",
)

LEAST_PAIRS = 100  # with fewer, retrieval would learn the names of a few products and nothing else
FEW_PAIRS = 5_000  # below this a word is seen a handful of times: measure against a bundle of `aisle build`
LEAST_PAGES = 10  # engaged ones, to learn from and to hold out
LEAST_QUERIES = 20  # with a product type
LEAST_LATER = 10  # engaged searches of the report
TOLD_SHARE = 0.01  # of events or products, from which on a lack is told


class Outcome(StrEnum):
    TRAINED = "trained"
    LESS = "trained with less"
    OUT = "left out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """A row of the matrix."""

    name: str  # of what a shop may lack
    lacking: Callable[[ShopFacts], str]  # what is there, in numbers, if it is too little; else ""
    outcomes: Mapping[str, Outcome]  # of the stages that it concerns
    costs: str
    mend: str


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _told(part: int, whole: int, text: str) -> str:
    return f"{part:,} of {whole:,} {text}" if _share(part, whole) >= TOLD_SHARE else ""


def _impressions(facts: ShopFacts) -> str:
    if facts.clicked_pages >= LEAST_PAGES:
        return ""
    return f"{facts.clicked_pages:,} result pages with a click after the window of retrieval, {LEAST_PAGES} are needed"


def _clicks_to_rank(facts: ShopFacts) -> str:
    if max(facts.clicked_pages, facts.clicked_searches) >= LEAST_PAGES:
        return ""
    count = facts.clicked_pages + facts.clicked_searches
    return f"{count:,} searches with a click after the window of retrieval, {LEAST_PAGES} are needed"


def _categories(facts: ShopFacts) -> str:
    if facts.categories < 2:
        return f"{facts.categories} categories"
    return _told(facts.products - facts.with_category, facts.products, "products have no category")


def _types(facts: ShopFacts) -> str:
    if facts.types >= 2 and facts.typed_queries >= LEAST_QUERIES:
        return ""
    return f"{facts.typed_queries:,} queries led to products of {facts.types:,} categories, {LEAST_QUERIES} and 2 are needed"


_ALL_LEARN = (TEXT, UNIFIED, TYPES, TEACHER, RANKER)


def _less(*stages: str) -> dict[str, Outcome]:
    return dict.fromkeys(stages, Outcome.LESS)


def _out(*stages: str) -> dict[str, Outcome]:
    return dict.fromkeys(stages, Outcome.OUT)


# In the order in which they are told. A stage takes the worst outcome of all that it lacks.
MATRIX = (
    Need(
        name="clicks after a search",
        lacking=lambda facts: (
            f"{facts.pairs:,} pairs of a search and a product that it led to, {LEAST_PAIRS} are needed"
            if facts.pairs < LEAST_PAIRS
            else ""
        ),
        outcomes=_out(*STAGES),
        costs="nothing is trained",
        mend="a longer log, ids that are those of the catalogue, or 'aisle build' for search by text alone",
    ),
    Need(
        name="many clicks",
        lacking=lambda facts: (
            f"{facts.pairs:,} pairs of a search and a product, {FEW_PAIRS:,} are few" if facts.pairs < FEW_PAIRS else ""
        ),
        outcomes=_less(TEXT, UNIFIED, TYPES),
        costs="rare words and products stay unknown",
        mend="a longer log; compare with a bundle of 'aisle build', which knows words from elsewhere",
    ),
    Need(
        name="products of the log",
        lacking=lambda facts: _told(facts.unknown, facts.events, "events are of products that the catalogue lacks"),
        outcomes=_less(*STAGES),
        costs="their clicks teach nothing",
        mend="a catalogue with discontinued products, out of stock; or other ids: --id",
    ),
    Need(
        name="queries",
        lacking=lambda facts: (
            f"{facts.titled:,} of {facts.engaged:,} clicks, carts and purchases got a query from titles"
            if facts.titled
            else ""
        ),
        outcomes=_less(*STAGES),
        costs="queries are words of titles, and titles of what was viewed before: shoppers' own words are not learned",
        mend="log the query that led to an event",
    ),
    Need(
        name="impressions",
        lacking=_impressions,
        outcomes=_less(RANKER, REPORT) | _out(TEACHER),
        costs="nobody knows what was shown and passed over: the ranker compares clicks with what a search would find, and its "
        "probabilities hold for such pages alone",
        mend="log an event of kind impression for each product that a page shows, with its position",
    ),
    Need(
        name="later clicks",
        lacking=_clicks_to_rank,
        outcomes=_out(TEACHER, RANKER),
        costs="products are in the order of retrieval",
        mend="a longer log",
    ),
    Need(
        name="categories",
        lacking=_categories,
        outcomes=_less(UNIFIED, TEACHER, RANKER),
        costs="prices are compared across the whole catalogue, and products with those of other kinds",
        mend="--category",
    ),
    Need(
        name="queries of known types",
        lacking=_types,
        outcomes=_out(TYPES),
        costs="no product types as facets, boost or filter",
        mend="--category, and a log with queries",
    ),
    Need(
        name="prices",
        lacking=lambda facts: _told(facts.products - facts.with_price, facts.products, "products have no price"),
        outcomes=_less(UNIFIED, TEACHER, RANKER),
        costs="they are in no price band: taste for cheap or dear is not learned from them",
        mend="--price",
    ),
    Need(
        name="text",
        lacking=lambda facts: "" if facts.has_text else "no column of text beside the title",
        outcomes=_less(TEXT),
        costs="the encoder reads titles, brands and categories alone",
        mend="--text",
    ),
    Need(
        name="shoppers",
        lacking=lambda facts: (
            f"all {facts.events:,} events are anonymous" if facts.events and facts.anonymous == facts.events else ""
        ),
        outcomes=_less(UNIFIED, TEACHER, RANKER),
        costs="a history is one session: no taste is carried over to the next visit",
        mend="log a shopper_id, also a pseudonym",
    ),
    Need(
        name="sessions",
        lacking=lambda facts: _told(facts.without_session, facts.events, "events had no session"),
        outcomes=_less(UNIFIED, TEACHER, RANKER, REPORT),
        costs="sessions are split at gaps of 30 minutes; an anonymous event without a session counts alone",
        mend="log a session_id",
    ),
    Need(
        name="locales",
        lacking=lambda facts: (
            f"{facts.without_locale:,} of {facts.events:,} events had no locale and count as {facts.default_locale}"
            if facts.without_locale
            else ""
        ),
        outcomes=_less(*_ALL_LEARN[1:]),
        costs="words of other languages are mixed with those of the default locale",
        mend="log a locale; --locale names another default",
    ),
    Need(
        name="carts",
        lacking=lambda facts: "" if facts.carts else "no cart after the window of retrieval",
        outcomes=_less(TEACHER, RANKER),
        costs="a cart is predicted from purchases, which count as carts; without either the task is left out",
        mend="log events of kind cart",
    ),
    Need(
        name="purchases",
        lacking=lambda facts: "" if facts.purchases else "no purchase after the window of retrieval",
        outcomes=_less(TEACHER, RANKER, REPORT),
        costs="the task is left out: its probability is a constant, and the report measures the strongest kind that there is",
        mend="log events of kind purchase",
    ),
    Need(
        name="a later part of the log",
        lacking=lambda facts: (
            f"{facts.later:,} searches with a click in the last 5 % of the log, {LEAST_LATER} are needed"
            if facts.later < LEAST_LATER
            else ""
        ),
        outcomes=_out(REPORT),
        costs="nobody knows how good the bundle is",
        mend="a longer log",
    ),
)


def matrix_markdown() -> str:
    """Returns the matrix as a Markdown table, for the documentation."""
    marks = {Outcome.LESS: "less", Outcome.OUT: "out"}
    lines = [
        f"| without | {' | '.join(STAGES)} | what it costs | what mends it |",
        "|---" * (len(STAGES) + 3) + "|",
    ]
    for need in MATRIX:
        cells = [marks.get(need.outcomes.get(stage, Outcome.TRAINED), "") for stage in STAGES]
        lines.append(f"| {need.name} | {' | '.join(cells)} | {need.costs} | {need.mend} |".replace("|  |", "| |"))
    return "\n".join(lines).replace("|  |", "| |")
