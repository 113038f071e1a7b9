"""Price conditions: "under $50", "20-30 euro", "bis 1.299,00 €", "moins de 30 €".

How numbers are read, in every language: of two kinds of separators the last is the decimal one; a separator before exactly three digits
parts thousands ("1.299", "1,299"); before any other number of digits it is the decimal one ("12,5"). In a currency of three decimals a
lone "." is decimal. "Under $50" excludes $50, "up to $50" does not, and "about" allows a fifth more or less.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from models.products.currency import currency_digits
from models.query_words.language_rules import LanguageRules
from models.query_words.parts import PriceCondition
from models.query_words.text import any_of

MAX_MINOR = 10**15  # a greater amount is no price
MAX_AMOUNTS = 16  # of a query
MAX_PHRASE = 32  # characters of the longest phrase before an amount
ABOUT = Decimal("0.2")

# The spellings of currencies. The catalogue's is meant where it is one of several, otherwise the first.
CURRENCIES: dict[str, tuple[str, ...]] = {
    "$": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN", "CLP", "COP", "ARS"),
    "us$": ("USD",),
    "usd": ("USD",),
    "dollar": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD"),
    "dollars": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD"),
    "bucks": ("USD", "CAD", "AUD", "NZD"),
    "ドル": ("USD",),
    "€": ("EUR",),
    "eur": ("EUR",),
    "euro": ("EUR",),
    "euros": ("EUR",),
    "ユーロ": ("EUR",),
    "£": ("GBP",),
    "gbp": ("GBP",),
    "quid": ("GBP",),
    "¥": ("JPY", "CNY"),
    "円": ("JPY",),
    "yen": ("JPY",),
    "jpy": ("JPY",),
    "cny": ("CNY",),
    "chf": ("CHF",),
    "fr.": ("CHF",),
    "sfr.": ("CHF",),
    "franken": ("CHF",),
    "kr": ("SEK", "NOK", "DKK", "ISK"),
    "kr.": ("DKK", "SEK", "NOK", "ISK"),
    "sek": ("SEK",),
    "nok": ("NOK",),
    "dkk": ("DKK",),
    "zł": ("PLN",),
    "pln": ("PLN",),
    "kč": ("CZK",),
    "czk": ("CZK",),
    "₹": ("INR",),
    "inr": ("INR",),
    "rs.": ("INR",),
    "₩": ("KRW",),
    "krw": ("KRW",),
    "₺": ("TRY",),
    "cad": ("CAD",),
    "aud": ("AUD",),
}
_POUNDS = ("pound", "pounds")  # a weight, except where prices are in pounds
_MULTIPLIERS = {"k": 1000, "千": 1000, "万": 10_000, "": 1}
_DASH = r"[-\u2010-\u2015\u2212~\u301c\uff5e]"


@dataclass(frozen=True, slots=True)
class _Amount:
    start: int
    end: int
    value: Decimal
    currency: str  # as written, "" for none


@dataclass(frozen=True, slots=True)
class _Patterns:
    amount: re.Pattern[str]
    before: re.Pattern[str]
    after: re.Pattern[str]
    between: re.Pattern[str]
    joint: re.Pattern[str]
    price_word: re.Pattern[str]
    filler: re.Pattern[str]
    conjunctions: tuple[str, ...]
    bounds_before: Mapping[str, str]
    bounds_after: Mapping[str, str]


def read_prices(query: str, text: str, rules: LanguageRules, currency: str) -> tuple[PriceCondition, ...]:
    """Returns the price conditions of a query, in its order. `text` is the folded query, `currency` the catalogue's."""
    if not any(map(str.isdigit, text)):
        return ()
    patterns = _patterns(rules, currency)
    amounts = [_amount(match, currency) for match in itertools.islice(patterns.amount.finditer(text), MAX_AMOUNTS)]
    conditions: list[PriceCondition] = []
    at = 0
    while at < len(amounts):
        used, condition = _read_at(query, text, patterns, amounts[at : at + 2], currency)
        if condition and not (conditions and condition.start < conditions[-1].end):
            conditions.append(condition)
        at += used
    return tuple(conditions)


def _read_at(
    query: str, text: str, patterns: _Patterns, amounts: Sequence[_Amount], currency: str
) -> tuple[int, PriceCondition | None]:
    """Returns how many of two neighbouring amounts were read, and the condition that they are part of."""
    low = amounts[0]
    between = _ending(patterns.between, text, low.start)
    start = between.start() if between else low.start
    is_priced, start_priced = _price_word(text, start, patterns)
    if len(amounts) > 1:
        high = amounts[1]
        joint = text[low.end : high.start].strip()
        is_joint = bool(re.fullmatch(_DASH, joint) or patterns.joint.fullmatch(joint))
        # "20 and 30 euro" are two prices, "between 20 and 30 euro" is one condition.
        is_joint = is_joint and (between is not None or joint not in patterns.conjunctions)
        named = high.currency or low.currency
        if (
            is_joint
            and (named or is_priced)
            and (not low.currency or not high.currency or low.currency == high.currency)
        ):
            code = _code(named, currency)
            bounds = _minor(low.value, code), _minor(high.value, code)
            if None not in bounds:
                first, last = sorted(bound for bound in bounds if bound is not None)
                return 2, _condition(query, start_priced, high.end, first, last, code, True)
    return 1, _read_single(query, text, patterns, low, currency)


def _read_single(query: str, text: str, patterns: _Patterns, amount: _Amount, currency: str) -> PriceCondition | None:
    start, end, bound = amount.start, amount.end, ""
    if before := _ending(patterns.before, text, start):
        start, bound = before.start(), patterns.bounds_before[_one_blank(before.group("phrase"))]
    elif after := patterns.after.match(text, end):
        end, bound = after.end(), patterns.bounds_after[_one_blank(after.group("phrase"))]
    is_priced, start_priced = _price_word(text, start, patterns)
    is_stated = bool(amount.currency) or is_priced
    is_last = not text[end:].strip(" .!?,")
    # "budget 55 inch tv" names no price: without a currency or a comparison the number ends the query.
    bound = bound or ("at_most" if is_priced and (amount.currency or is_last) else "")
    if not bound or not (is_stated or (is_last and bound in ("below", "at_most"))):
        return None
    code = _code(amount.currency, currency)
    minor = _minor(amount.value, code)
    if minor is None:
        return None
    low, high = _bounds(bound, minor)
    return _condition(query, start_priced if is_stated else start, end, low, high, code, is_stated)


def _bounds(bound: str, minor: int) -> tuple[int | None, int | None]:
    if bound == "about":
        spread = int(minor * ABOUT)
        return minor - spread, minor + spread
    return {
        "below": (None, minor - 1),
        "at_most": (None, minor),
        "above": (minor + 1, None),
        "at_least": (minor, None),
    }[bound]


def _condition(
    query: str, start: int, end: int, low: int | None, high: int | None, code: str, is_stated: bool
) -> PriceCondition:
    return PriceCondition(
        text=query[start:end],
        start=start,
        end=end,
        min_minor=low,
        max_minor=high,
        currency=code,
        is_stated=is_stated,
    )


def _ending(pattern: re.Pattern[str], text: str, end: int) -> re.Match[str] | None:
    """Returns the match that ends at a place of the text."""
    return pattern.search(text, max(0, end - MAX_PHRASE), end)


def _price_word(text: str, start: int, patterns: _Patterns) -> tuple[bool, int]:
    """Returns whether a price word stands before a condition, and where the condition begins with it and with the words between."""
    is_priced = False
    for _ in range(4):
        if word := _ending(patterns.price_word, text, start):
            is_priced, start = True, word.start()
        elif filler := _ending(patterns.filler, text, start):
            start = filler.start()
        else:
            break
    return is_priced, start


def _amount(match: re.Match[str], currency: str) -> _Amount:
    number = match.group("spaced") or match.group("number")
    written = match.group("before") or match.group("after") or ""
    has_thousandths = currency_digits(_code(written, currency)) == 3
    value = parse_number(number, has_thousandths) * _MULTIPLIERS[match.group("times") or ""]
    return _Amount(match.start(), match.end(), value, written)


def parse_number(number: str, has_thousandths: bool = False) -> Decimal:
    """Returns a number with "." and "," as thousands or decimal separators, by the rules of this module."""
    number = re.sub(r"[\s'\u2019]", "", number)
    decimal = max(number.rfind("."), number.rfind(","))
    if decimal < 0:
        return Decimal(number)
    whole, fraction = number[:decimal], number[decimal + 1 :]
    separator = number[decimal]
    only_kind = not (set(whole) & {".", ","}) or separator in whole
    is_thousands = len(fraction) == 3 and whole.strip("0") and not (has_thousandths and number.count(".") == 1)
    if only_kind and is_thousands:
        whole, fraction = whole + fraction, ""
    whole = re.sub("[.,]", "", whole)
    return Decimal(f"{whole or 0}.{fraction or 0}")


def _code(written: str, currency: str) -> str:
    codes = CURRENCIES.get(written, (currency,))  # its own code is always one
    return currency if currency in codes else codes[0]


def _minor(value: Decimal, code: str) -> int | None:
    if value > MAX_MINOR:  # before the arithmetic: a query may hold a number of 500 digits
        return None
    minor = int((value * 10 ** currency_digits(code)).to_integral_value(ROUND_HALF_UP))
    return minor if minor <= MAX_MINOR else None


def _one_blank(phrase: str) -> str:
    return " ".join(phrase.split())


@lru_cache(maxsize=64)
def _patterns(rules: LanguageRules, currency: str) -> _Patterns:
    names = any_of([*CURRENCIES, currency.lower(), *(_POUNDS if currency == "GBP" else ())])
    grouped = r"\d{1,3}(?:[.,'\u2019]\d{3})+(?:[.,]\d{1,2})?|\d{1,15}(?:[.,]\d{1,4})?"
    # Blanks part thousands only where a currency follows: at once, or after the other end of a range.
    ends_range = rf"(?:\s*(?:{any_of(rules.range_joints)}|{_DASH})\s*\d[\d\s.,]{{0,12}})?"
    amount = (
        rf"(?<![a-z0-9\u00df-\u024f.,/])(?:(?P<before>{names})\s?)?"
        rf"(?:(?P<spaced>\d{{1,3}}(?: \d{{3}})+(?:[.,]\d{{1,2}})?)(?={ends_range}\s?(?:{names}))|(?P<number>{grouped}))"
        rf"(?:[.,][-\u2013\u2014]{{1,2}})?(?P<times>k|千|万)?(?:\s?(?P<after>{names}))?(?![a-z0-9\u00df-\u024f])"
    )
    before = {
        **dict.fromkeys(rules.at_least, "at_least"),
        **dict.fromkeys(rules.above, "above"),
        **dict.fromkeys(rules.about, "about"),
        **dict.fromkeys(rules.at_most, "at_most"),
        **dict.fromkeys(rules.below, "below"),
    }
    after = {
        **dict.fromkeys(rules.or_more, "at_least"),
        "+": "at_least",
        **dict.fromkeys(rules.or_less, "at_most"),
        **dict.fromkeys(rules.less, "below"),
    }
    return _Patterns(
        amount=re.compile(amount),
        before=re.compile(rf"(?P<phrase>{any_of(before)})\s*$"),
        after=re.compile(rf"\s*(?P<phrase>{any_of(after)})の?"),
        between=re.compile(rf"(?:{any_of(rules.between)})\s*$"),
        joint=re.compile(any_of(rules.range_joints)),
        price_word=re.compile(rf"(?:{any_of(rules.price_words)})\s*[:=]?\s*$"),
        filler=re.compile(rf"(?:{any_of((*rules.price_fillers, rules.conjunctions[0]))})\s*$"),
        conjunctions=rules.conjunctions,
        bounds_before=before,
        bounds_after=after,
    )
