"""Locales call every type by nouns of their own, dialects disagree where real ones do, and queries follow their language."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable

import pytest

from models.draws import Draws
from models.sample_store import SampleStore
from models.sample_store.data_file import DataFileError, DataTable, data_folder
from models.sample_store.locales import (
    MAIN_LOCALE,
    DialectTrap,
    LocaleQuery,
    Noun,
    all_locales,
    default_volumes,
    dialect_traps,
    locale_named,
    write_locale_query,
)
from models.sample_store.locales.read_locales import LANGUAGE_FILES, read_language_file
from models.sample_store.product_types import load_product_types
from models.sample_store.words import load_words

CATEGORY = {kind.name: kind.category for kind in load_product_types()}


def nouns_of(locale: str, type_name: str) -> list[str]:
    at = [kind.name for kind in load_product_types()].index(type_name)
    return [noun.text for noun in locale_named(locale).nouns[at]]


def queries(locale: str, count: int = 1500) -> list[LocaleQuery]:
    store, draws = SampleStore(2000), Draws(3)
    latents = store.latents().rows()
    return [write_locale_query(locale_named(locale), draws.pick(latents), draws) for _ in range(count)]


def languages(trap: DialectTrap) -> set[str]:
    return {locale.split("-")[0] for locale in trap.types}


def language_file(code: str, changes: dict[str, object]) -> DataTable:
    """The data file of a language with changed values, by their dotted keys."""
    values = tomllib.loads(data_folder().joinpath(f"languages/{code}.toml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = values
        for name in path:
            inner = inner[name]
        inner[last] = value
    return DataTable("language.toml", "", values)


class TestReading:
    def test_nouns_have_the_form_that_is_written(self) -> None:
        locale = read_language_file(language_file("french", {"nouns.dress": ["robe/f", "baskets/fp", "haut"]}))[0]
        assert locale.language.nouns["dress"] == (Noun("robe", "f"), Noun("baskets", "fp"), Noun("haut"))

    def test_hasty_shoppers_spell_letters_with_others(self) -> None:
        assert "größe".translate(dict(locale_named("de-DE").language.plain_letters)) == "groesse"

    def test_switzerland_has_no_sharp_s_and_the_commonwealth_no_american_spelling(self) -> None:
        swiss, british = locale_named("de-CH").language, locale_named("en-GB").language
        assert "weiss" in swiss.colours["White"]
        assert not any("ß" in noun.text for nouns in swiss.nouns.values() for noun in nouns)
        assert not any("gray" in word or "colored" in word for words in british.colours.values() for word in words)

    def test_every_file_is_read(self) -> None:
        files = {path.name for path in data_folder().joinpath("languages").iterdir()}
        assert files == {f"{name}.toml" for name in LANGUAGE_FILES}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"nouns.dress": []}, "nouns.dress must be a list of one or more different texts, not []"),
            (
                {"nouns.dress": ["robe/x"]},
                "nouns.dress has 'robe/x', which must be a noun, or a noun with one of /m, /f",
            ),
            ({"nouns.dress": ["robe", "robe"]}, "nouns.dress must be a list of one or more different texts"),
            ({"nouns.gown": ["robe"]}, "nouns.gown is none of air fryer, "),
            ({"colours.Bleu": ["bleu"]}, "colours.Bleu is none of Beige, "),
            ({"price_words": [["pas cher"]]}, "price_words must be 5 lists"),
            ({"before_noun": ["colour", "weight"]}, "before_noun has 'weight', which is none of audience, "),
            ({"plain_letters.oe": "o"}, "plain_letters.oe must be one letter"),
            ({"locales.fr-CA.share": -1}, "locales.fr-CA.share must be an integer from 0 to 1000000, not -1"),
            ({"locales.fr-CA.nouns_of": "fr-XX"}, "locales.fr-CA.nouns_of has 'fr-XX', which is none of fr-BE"),
            ({"locales.fr-CA.currency": "CAD"}, "locales.fr-CA.currency is not a known key; the known ones are "),
            ({"plural": "s"}, "plural is not a known key; the known ones are audiences, "),
        ],
    )
    def test_a_slip_is_reported_with_its_file_and_key(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(DataFileError, match=re.escape(f"language.toml: {message}")):
            read_language_file(language_file("french", changes))

    def test_a_type_without_a_noun_is_refused(self) -> None:
        nouns = {"sofa": ["canapé"]}
        with pytest.raises(DataFileError, match="language.toml: nouns.armchair is missing"):
            read_language_file(language_file("french", {"nouns": nouns}))


class TestVocabulary:
    def test_there_are_at_least_20_locales_in_9_languages(self) -> None:
        assert len(all_locales()) >= 20
        assert len({locale.language.code for locale in all_locales().values()}) >= 9
        assert MAIN_LOCALE in all_locales()

    @pytest.mark.parametrize("name", list(all_locales()))
    def test_every_type_has_a_noun_and_no_noun_has_two_types(self, name: str) -> None:
        locale = locale_named(name)
        assert len(locale.nouns) == len(load_product_types())
        assert all(locale.nouns)
        counts = Counter(noun.text for nouns in locale.nouns for noun in nouns)
        assert [noun for noun, count in counts.items() if count > 1] == []

    @pytest.mark.parametrize("name", list(all_locales()))
    def test_words_are_of_what_the_catalogue_has(self, name: str) -> None:
        language, words = locale_named(name).language, load_words()
        for said, listed in (
            (language.colours, words.colours),
            (language.materials, words.materials),
            (language.audiences, words.audiences),
        ):
            assert set(said) <= {word.seller for word in listed}
            assert all(said.values())
        assert len(language.colours) >= 20
        assert len(language.price_words) == 5
        assert {noun.form for nouns in locale_named(name).nouns for noun in nouns} <= {"", "m", "f", "n", "mp", "fp"}

    def test_american_english_is_that_of_the_catalogue(self) -> None:
        for kind, nouns in zip(load_product_types(), locale_named("en-US").nouns, strict=True):
            assert {noun.text for noun in nouns} == {*map(str.lower, kind.nouns), *kind.shopper_nouns}

    def test_a_dialect_takes_a_word_from_all_other_types(self) -> None:
        assert "pants" in nouns_of("en-US", "trousers")
        assert "pants" not in nouns_of("en-GB", "trousers")
        assert nouns_of("en-GB", "underwear")[0] == "pants"

    def test_unknown_locale_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"no locale 'xx-XX'; it has en-US, .*ja-JP"):
            locale_named("xx-XX")


class TestTraps:
    def test_there_are_many_within_languages_and_across(self) -> None:
        traps = dialect_traps()
        assert len(traps) >= 25
        assert sum(len(languages(trap)) == 1 for trap in traps) >= 12
        assert sum(len(languages(trap)) > 1 for trap in traps) >= 10

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("pants", {"en-US": "trousers", "en-GB": "underwear"}),
            ("football", {"en-US": "american football", "en-GB": "soccer ball", "de-DE": "american football"}),
            ("chips", {"en-US": "potato crisps", "en-GB": "frozen fries", "fr-FR": "potato crisps"}),
            ("torch", {"en-US": "blow torch", "en-GB": "flashlight", "en-IN": "flashlight"}),
            ("vest", {"en-US": "waistcoat", "en-GB": "undershirt", "nl-NL": "cardigan"}),
            ("jumper", {"en-US": "dress", "en-GB": "jumper"}),
            ("purse", {"en-US": "handbag", "en-GB": "wallet"}),
            ("slippers", {"en-GB": "slippers", "en-IN": "flip-flops", "nl-NL": "flip-flops"}),
            ("hose", {"en-US": "garden hose", "de-DE": "trousers"}),
            ("pfanne", {"de-DE": "frying pan", "de-CH": "saucepan"}),
            ("cartera", {"es-ES": "wallet", "es-AR": "handbag"}),
            ("camisola", {"pt-BR": "nightgown", "pt-PT": "jumper"}),
            ("jaquette", {"fr-CA": "nightgown", "fr-CH": "cardigan"}),
            ("kleed", {"nl-NL": "rug", "nl-BE": "dress"}),
        ],
    )
    def test_a_query_means_what_it_means_in_its_locale(self, query: str, wanted: dict[str, str]) -> None:
        trap = next(trap for trap in dialect_traps() if trap.query == query)
        assert {locale: trap.types[locale] for locale in wanted} == {
            locale: CATEGORY[name] for locale, name in wanted.items()
        }


class TestAgreement:
    @pytest.mark.parametrize(
        ("locale", "noun", "adjective", "said"),
        [
            ("fr-FR", Noun("robe", "f"), "noir", "noire"),
            ("fr-FR", Noun("baskets", "fp"), "blanc", "blanches"),
            ("fr-FR", Noun("escarpins"), "rouge", "rouges"),
            ("fr-FR", Noun("tapis"), "gris", "gris"),
            ("es-ES", Noun("camiseta"), "negro", "negra"),
            ("es-ES", Noun("pantalones"), "marrón", "marrones"),
            ("it-IT", Noun("borsa"), "nero", "nera"),
            ("it-IT", Noun("scarpe"), "bianco", "bianche"),
            ("it-IT", Noun("pantaloni"), "grigio", "grigi"),
            ("pt-BR", Noun("calça jeans"), "preto", "preta"),
            ("pt-BR", Noun("meias"), "azul", "azuis"),
            ("pl-PL", Noun("sukienka"), "czarny", "czarna"),
            ("pl-PL", Noun("spodnie"), "niebieski", "niebieskie"),
            ("pl-PL", Noun("sofa"), "tani", "tania"),
            ("uk-UA", Noun("сукня"), "темно-синій", "темно-синя"),
            ("uk-UA", Noun("ліжко"), "синій", "синє"),
            ("uk-UA", Noun("штани"), "чорний", "чорні"),
            ("sv-SE", Noun("byxor"), "svart", "svarta"),
            ("de-DE", Noun("hose"), "schwarz", "schwarz"),
        ],
    )
    def test_adjectives_take_the_form_of_their_noun(self, locale: str, noun: Noun, adjective: str, said: str) -> None:
        language = locale_named(locale).language
        assert language.agree(adjective, language.form_of(noun)) == said


class TestQueries:
    def test_they_hold_a_noun_of_the_target_type_except_for_typing_errors(self) -> None:
        for name in ("en-GB", "de-AT", "pl-PL", "ja-JP"):
            asked = queries(name, 600)
            locale = locale_named(name)
            assert {query.locale for query in asked} == {name}

            def holds(texts: Iterable[str], query: str, name: str = name) -> bool:
                plain = locale_named(name).language.plain_letters
                return any(text in query or text.translate(plain) in query for text in texts)

            found = sum(holds((n.text for n in locale.nouns[q.type]), q.text.lower()) for q in asked)
            assert found / len(asked) > 0.93

    def test_colours_stand_where_the_language_puts_them(self) -> None:
        english = [query.text for query in queries("en-GB") if query.text.endswith(" desk") or query.text == "desk"]
        assert english
        french = [query.text.split() for query in queries("fr-FR") if {"noir", "noire"} & set(query.text.split())]
        last = sum(words[-1].startswith("noir") for words in french)
        first = sum(words[0].startswith("noir") for words in french)
        assert last > first + 5

    def test_mostly_lower_case_and_sometimes_without_accents(self) -> None:
        texts = [query.text for query in queries("pl-PL")]
        assert 0.8 < sum(text == text.lower() for text in texts) / len(texts) < 0.98
        assert any("łóżko" in text for text in texts)
        assert any("lozko" in text for text in texts)

    def test_same_draws_give_the_same_queries(self) -> None:
        assert queries("tr-TR", 100) == queries("tr-TR", 100)


def test_default_volumes_are_very_unequal_and_leave_the_main_locale_out() -> None:
    volumes = default_volumes(110_000)
    assert set(volumes) == set(all_locales()) - {MAIN_LOCALE}
    assert sum(volumes.values()) == pytest.approx(110_000, rel=0.01)
    ordered = sorted(volumes.values(), reverse=True)
    assert sum(ordered[:2]) > 0.4 * sum(ordered)
    assert sum(count < 500 for count in ordered) >= len(ordered) // 2
