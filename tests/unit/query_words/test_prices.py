"""Price conditions are read in each language, in minor units, and what is no price stays in the query."""

from __future__ import annotations

from decimal import Decimal

import pytest

from models.products.errors import CatalogueError
from models.query_words.language_rules import LANGUAGES, rules_of
from models.query_words.parts import PriceCondition
from models.query_words.prices import parse_number
from models.query_words.read_query import read_query


def price(query: str, locale: str = "en", currency: str = "USD") -> PriceCondition:
    (condition,) = read_query(query, locale, currency).prices
    assert query[condition.start : condition.end] == condition.text
    return condition


@pytest.mark.parametrize(
    ("locale", "currency", "query", "low", "high", "rest"),
    [
        ("en-US", "USD", "lamp under $50", None, 4999, "lamp"),
        ("en", "USD", "Lamp Under $ 50", None, 4999, "Lamp"),
        ("en", "USD", "lamp for less than 50 dollars", None, 4999, "lamp"),
        ("en", "USD", "lamp up to $50", None, 5000, "lamp"),
        ("en", "USD", "lamp max. $50", None, 5000, "lamp"),
        ("en", "USD", "lamp <= 50 usd, blue", None, 5000, "lamp, blue"),
        ("en", "USD", "lamp over $50", 5001, None, "lamp"),
        ("en", "USD", "lamp from $50", 5000, None, "lamp"),
        ("en", "USD", "lamp $50 or more", 5000, None, "lamp"),
        ("en", "USD", "lamp $50+", 5000, None, "lamp"),
        ("en", "USD", "lamp $1.5k or less", None, 150_000, "lamp"),
        ("en", "USD", "lamp about $100", 8000, 12000, "lamp"),
        ("en", "EUR", "lamp 20-30 euro", 2000, 3000, "lamp"),
        ("en", "EUR", "lamp €20 \u2013 €30", 2000, 3000, "lamp"),
        ("en", "EUR", "between 30 and 20 eur lamp", 2000, 3000, "lamp"),
        ("en", "EUR", "below 1.299,00 € sofa", None, 129_899, "sofa"),
        ("en", "USD", "sofa below $1,299", None, 129_899, "sofa"),
        ("en", "USD", "sofa below $1,299.50", None, 129_949, "sofa"),
        ("en", "CHF", "soap CHF 12.50 to 20", 1250, 2000, "soap"),
        ("en", "CHF", "soap CHF12.50-20.-", 1250, 2000, "soap"),
        ("en", "USD", "lamp price under 50", None, 4999, "lamp"),
        ("en", "USD", "laptop budget 800", None, 80_000, "laptop"),
        ("en", "GBP", "lamp under 50 pounds", None, 4999, "lamp"),
        ("en", "KWD", "ring 1.250 kwd or less", None, 1250, "ring"),
        ("en", "JPY", "lamp under ¥5,000", None, 4999, "lamp"),
        ("de", "EUR", "Lampe bis 50 euro", None, 5000, "Lampe"),
        ("de-AT", "EUR", "Lampe unter 1.299,00 €", None, 129_899, "Lampe"),
        ("de", "EUR", "Lampe ab 20€", 2000, None, "Lampe"),
        ("de", "EUR", "Lampe zwischen 20 und 30 Euro", 2000, 3000, "Lampe"),
        ("de", "EUR", "Lampe höchstens 49,90 €", None, 4990, "Lampe"),
        ("de-CH", "CHF", "Sofa bis 1'299 Fr.", None, 129_900, "Sofa"),
        ("fr", "EUR", "lampe moins de 30 €", None, 2999, "lampe"),
        ("fr", "EUR", "lampe jusqu'à 30 euros", None, 3000, "lampe"),
        ("fr", "EUR", "canapé à partir de 1 299 €", 129_900, None, "canapé"),
        ("fr", "EUR", "canapé entre 1\u202f000 et 1\u00a0299,50 €", 100_000, 129_950, "canapé"),
        ("es", "EUR", "zapatos menos de 30 euros", None, 2999, "zapatos"),
        ("es", "EUR", "zapatos 20 a 30 euros", 2000, 3000, "zapatos"),
        ("it", "EUR", "scarpe sotto i 50 euro", None, 4999, "scarpe"),
        ("it", "EUR", "scarpe fino a 50 €", None, 5000, "scarpe"),
        ("nl", "EUR", "schoenen tot 50 euro", None, 5000, "schoenen"),
        ("nl", "EUR", "schoenen tussen 20 en 50 euro", 2000, 5000, "schoenen"),
        ("ja", "JPY", "5000円以下のイヤホン", None, 5000, "イヤホン"),
        ("ja", "JPY", "イヤホン 5000円未満", None, 4999, "イヤホン"),
        ("ja", "JPY", "イヤホン 1万円から2万円", 10_000, 20_000, "イヤホン"),
        ("ja", "JPY", "イヤホン 予算\uff15\uff10\uff10\uff10円", None, 5000, "イヤホン"),
        ("xx", "USD", "lamp under $50", None, 4999, "lamp"),
    ],
)
def test_a_price_condition_is_read_and_leaves_the_query(
    locale: str, currency: str, query: str, low: int | None, high: int | None, rest: str
) -> None:
    condition = price(query, locale, currency)
    assert (condition.min_minor, condition.max_minor, condition.currency) == (low, high, currency)
    assert condition.is_stated
    parts = read_query(query, locale, currency)
    assert parts.rest == rest
    assert parts.price_bounds(currency) == (low, high)


@pytest.mark.parametrize(
    "query",
    [
        "$50 gift card",
        "cable under 30 cm",
        "dumbbell under 50 pounds",
        "tower 20 to 30",
        "lamps 20 and 30 euro",
        "20-30 screws",
        "4k tv",
        "windows 11",
        "under armour shoes",
        "over ear headphones",
        "under $" + "9" * 20,
        "under the sea",
    ],
)
def test_what_is_no_price_condition_stays(query: str) -> None:
    parts = read_query(query, "en", "USD")
    assert parts.prices == ()
    assert parts.rest == query


def test_a_bare_number_may_be_an_age_and_is_not_stated() -> None:
    for query in ("games for kids under 12", "laptop under 500"):
        parts = read_query(query, "en", "USD")
        assert [condition.is_stated for condition in parts.prices] == [False]
        assert parts.rest == query
        assert parts.price_bounds("USD") == (None, None)


def test_another_currency_than_the_catalogues_is_told_and_bounds_nothing() -> None:
    assert price("lamp under $50", currency="EUR").currency == "USD"
    assert price("lamp under $50", currency="CAD").currency == "CAD"
    assert read_query("lamp under $50", "en", "EUR").price_bounds("EUR") == (None, None)


def test_contradictory_conditions_are_told() -> None:
    parts = read_query("lamp over $50 and under $20", "en", "USD")
    assert [condition.text for condition in parts.prices] == ["over $50", "and under $20"]
    assert parts.price_bounds("USD") == (5001, 1999)
    assert parts.contradicts_itself("USD")
    assert not read_query("lamp over $20 and under $50", "en", "USD").contradicts_itself("USD")
    assert not read_query("lamp", "en", "USD").contradicts_itself("USD")


def test_a_currency_that_is_none_is_refused() -> None:
    with pytest.raises(CatalogueError, match="is not a currency"):
        read_query("lamp under 50", "en", "dollars")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", "12"),
        ("12.5", "12.5"),
        ("12,5", "12.5"),
        ("1.299", "1299"),
        ("1,299", "1299"),
        ("1.299,00", "1299"),
        ("1,299.00", "1299"),
        ("1.299.000", "1299000"),
        ("1 299,50", "1299.5"),
        ("1'299.50", "1299.5"),
        ("0.125", "0.125"),
        ("12.5000", "12.5"),
    ],
)
def test_the_convention_for_separators(written: str, value: str) -> None:
    assert parse_number(written) == Decimal(value)


def test_every_language_has_the_words_of_prices_and_negations() -> None:
    assert set(LANGUAGES) == {"en", "de", "fr", "es", "it", "nl", "ja"}
    for language in LANGUAGES:
        rules = rules_of(language)
        assert rules.below or rules.less, language
        assert rules.at_most, language
        assert rules.at_least, language
        assert rules.without or rules.without_after, language


@pytest.mark.parametrize(
    "query", ["budget 55 inch tv", "budget 2 person tent", "low cost 4 burner stove", "price of 2 monitors"]
)
def test_a_price_word_alone_makes_no_price_of_a_number_that_goes_on(query: str) -> None:
    assert not [price for price in read_query(query, "en-US", "USD").prices if price.is_stated]
