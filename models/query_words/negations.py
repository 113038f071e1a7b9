"""What a query does not want: "without sleeves", "-wireless", "ohne Ärmel", "袖なし"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from models.query_words.language_rules import LanguageRules
from models.query_words.parts import Negation, Part
from models.query_words.text import DETERMINERS, Token, any_of, overlaps, tokens

MAX_WORDS = 2  # "without long sleeves"; of more only the first is sure to be negated

_ONE_SCRIPT = re.compile("[\u30a0-\u30ff]+|[\u4e00-\u9fff]+|[^\u3040-\u30ff\u4e00-\u9fff]+")
_DASHED = re.compile(r"(?<!\S)[-\u2013\u2212](?P<words>[^\W\d_]{2}[\w'\u2019-]*)")


def read_negations(
    query: str, text: str, words: Sequence[Token], rules: LanguageRules, taken: Iterable[Part]
) -> tuple[Negation, ...]:
    """Returns the negations of a query, in its order, outside the parts that are taken. `text` is the folded query."""
    found: list[Negation] = []
    before, after = _patterns(rules)
    parts = list(taken)
    for negation in (
        *_dashed(query, text),
        *_behind(query, text, after),
        *_worded(query, text, words, rules, parts, before),
    ):
        if not overlaps(negation.start, negation.end, [*parts, *found]):
            found.append(negation)
    return tuple(sorted(found, key=lambda negation: negation.start))


def _dashed(query: str, text: str) -> Iterator[Negation]:
    for match in _DASHED.finditer(text):
        yield _negation(query, match.start(), match.start("words"), match.end(), True)


def _behind(query: str, text: str, pattern: re.Pattern[str]) -> Iterator[Negation]:
    for match in pattern.finditer(text):
        words = match.group("words")
        start = match.start("words")
        yield Negation(
            text=query[start : match.end()],
            start=start,
            end=match.end(),
            words=query[start : start + len(words)],
            # In a text without blanks the words may begin before the noun that is not wanted.
            is_certain=bool(_ONE_SCRIPT.fullmatch(words))
            and bool(f"{text[: match.start()]}{text[match.end() :]}".strip()),
        )


def _worded(
    query: str,
    text: str,
    words: Sequence[Token],
    rules: LanguageRules,
    taken: Sequence[Part],
    pattern: re.Pattern[str],
) -> Iterator[Negation]:
    stops = {*rules.prepositions, *rules.purpose, *rules.conjunctions, *rules.without, *rules.no}
    joins = set(rules.conjunctions[1:])  # "without sleeves or collar"; after "and" the wanted may go on
    for match in pattern.finditer(text):
        is_sure_word = match.lastgroup == "without"
        has_before = bool(tokens(text[: match.start()]))
        start, at = match.start(), match.end()
        while True:
            clause = _clause(text, words, at, stops, taken)
            if not clause:
                break
            length = len(clause)
            is_last = clause[-1].end >= words[-1].end
            is_certain = is_sure_word or (length == 1 and (has_before or is_last))
            # "no show socks" and "without sugar cookies" go on with what is wanted.
            take = length if length <= MAX_WORDS and has_before else 1
            if take == MAX_WORDS and clause[1].word in rules.not_nouns:  # "dress without sleeves red" is a red dress
                take = 1
            elif take == MAX_WORDS and not rules.head_is_last:  # "sans manches longues", and "sans visière homme"
                is_certain = False
            yield _negation(query, start, clause[0].start, clause[take - 1].end, is_certain)
            following = [word for word in words if word.start >= clause[take - 1].end][:1]
            if take < length or not is_certain or not following or following[0].word not in joins:
                break
            start, at = following[0].start, following[0].end


def _clause(text: str, words: Sequence[Token], at: int, stops: set[str], taken: Sequence[Part]) -> list[Token]:
    """Returns the words from a place on to the next that ends a noun phrase, without determiners at the start."""
    clause: list[Token] = []
    for word in words:
        if word.start < at:
            continue
        is_determiner = not clause and word.word in DETERMINERS
        if (clause and word.after_barrier) or overlaps(word.start, word.end, taken):
            break
        if text[at : word.start].strip(" '\u2019") and not clause:  # punctuation between the negation and the word
            break
        if is_determiner:
            at = word.end
            continue
        if word.word in stops or not word.word[0].isalpha() or text[word.start - 1] == "-":
            break
        clause.append(word)
    return clause


def _negation(query: str, start: int, start_words: int, end: int, is_certain: bool) -> Negation:
    return Negation(text=query[start:end], start=start, end=end, words=query[start_words:end], is_certain=is_certain)


@lru_cache(maxsize=64)
def _patterns(rules: LanguageRules) -> tuple[re.Pattern[str], re.Pattern[str]]:
    before = rf"(?<![\w'-])(?:(?P<without>{any_of(rules.without)})|(?P<no>{any_of(rules.no)}))(?![\w.-])"
    after = rf"(?P<words>[^\s\u3001,]{{1,20}}?)[がのは]?(?:{any_of(rules.without_after)})の?"
    return re.compile(before), re.compile(after)
