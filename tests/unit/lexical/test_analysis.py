"""One analysis for catalogue and query: what shoppers take for the same becomes the same terms."""

from __future__ import annotations

import pytest

from models.lexical.analysis import Analyzer


def terms(locale: str, text: str) -> list[str]:
    """The main term of every word, or the parts of a word that has none."""
    analyzer = Analyzer(locale)
    words = [analyzer.word(word) for word in analyzer.words(text)]
    return [term for word in words for term in ([word.term] if word.term else word.parts)]


@pytest.mark.parametrize(
    ("locale", "one", "other"),
    [
        ("en-US", "ＷＩＤＥ", "wide"),
        ("en-US", "soft\u00adhyphen", "softhyphen"),
        ("en-US", "wi‑fi", "Wi-Fi"),
        ("en-US", "wi–fi", "wifi"),
        ("en-US", "ﬁne", "fine"),
        ("en-US", "Logitech™", "logitech"),
        ("en-US", "<b>red</b><br/>sofa &amp; bed", "red sofa bed"),
        ("en-US", "caf&eacute;", "cafe"),
        ("en-US", "men’s shoe", "men shoes"),
        ("en-US", "batteries", "battery"),
        ("en-US", "12 in", "12in"),
        ("en-US", "12”", "12 inches"),
        ("en-US", '12"', "12-inch"),
        ("en-US", "2 m", "2m"),
        ("en-US", "1,000 mAh", "1000mah"),
        ("en-US", "HX-4210", "hx4210"),
        ("en-US", "SPA2600/00", "spa260000"),
        ("de-DE", "Straße", "strasse"),
        ("de-DE", "Kühlschrank", "kuehlschrank"),
        ("de-DE", "Kühlschrank", "kuhlschrank"),
        ("de-DE", "3,5 mm", "3.5mm"),
        ("de-DE", "1.000 Stück", "1000 Stück"),
        ("de-DE", "12 Zoll", "12 inch"),
        ("fr-FR", "l’eau", "eau"),
        ("fr-FR", "télévision", "television"),
        ("tr-TR", "IŞIK", "ışık"),
        ("tr-TR", "İPHONE", "iphone"),
        ("pl-PL", "słuchawki", "sluchawki"),
        ("da-DK", "Öl", "øl"),
        ("sv-SE", "blåbær", "blåbär"),
        ("el-GR", "ΦΩΤΟΓΡΑΦΙΚΉ", "φωτογραφικη"),
        ("ru-RU", "чёрный", "черный"),
        ("ar-EG", "سمّاعات", "سماعات"),
        ("ja-JP", "ﾉｰﾄﾊﾟｿｺﾝ", "ノートパソコン"),
    ],
)
def test_spellings_of_the_same_meet(locale: str, one: str, other: str) -> None:
    assert terms(locale, one) == terms(locale, other)


@pytest.mark.parametrize(
    ("locale", "one", "other"),
    [
        ("sv-SE", "få", "fa"),  # few; the note
        ("sv-SE", "hår", "har"),  # hair; has
        ("da-DK", "øl", "ol"),
        ("ja-JP", "がく", "かく"),
        ("en-US", "12 in", "12 cm"),
        ("en-US", "5.1", "51"),
        ("en-US", "HX-4210", "HX-4120"),
        ("hi-IN", "किताब", "कताब"),
    ],
)
def test_what_differs_stays_apart(locale: str, one: str, other: str) -> None:
    assert terms(locale, one) != terms(locale, other)


@pytest.mark.parametrize(
    ("locale", "text", "expected"),
    [
        ("zh-CN", "运动鞋", ["运动", "动鞋"]),
        ("ja-JP", "運動靴", ["運動", "動靴"]),
        ("ko-KR", "노트북 가방", ["노트", "트북", "가방"]),
        ("zh-CN", "鞋", ["鞋"]),
        ("ja-JP", "iPhone用ケース", ["iphone", "用ケ", "ケー", "ース"]),
        ("th-TH", "หูฟัง", ["หูฟั", "ฟัง"]),
    ],
)
def test_text_without_spaces_becomes_pairs_of_characters(locale: str, text: str, expected: list[str]) -> None:
    assert terms(locale, text) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("HX-4210", {"hx", "4210"}),
        ("iphone7", {"iphon", "7"}),
        ("noise-cancelling", {"nois", "cancel"}),
        ("30x40cm", {"30", "x", "40cm", "40", "cm"}),
        ("15.6-inch", {"15.6"}),
        ("802.11ac", {"802", "11", "ac"}),
    ],
)
def test_a_word_of_several_parts_is_found_by_each(text: str, parts: set[str]) -> None:
    analyzer = Analyzer("en")
    (word,) = analyzer.words(text)
    assert set(analyzer.word(word).parts) == parts


def test_a_preposition_is_a_unit_in_english_alone() -> None:
    assert terms("en", "2 in") == ["2in"]
    assert terms("de", "2 in") == ["2", "in"]


def test_stop_words_are_those_of_the_language() -> None:
    assert Analyzer("en").is_stop_word("the")
    assert not Analyzer("en").is_stop_word("die")
    assert Analyzer("de-AT").is_stop_word("die")
    assert not Analyzer("xx").is_stop_word("the")


def test_a_language_without_a_stemmer_keeps_its_words() -> None:
    assert terms("uk-UA", "навушники") == ["навушники"]


@pytest.mark.parametrize(
    "text", ["", "🎧🎧", "^$ .* [] ()", "\ud800", "\u200f\u202e", "<" * 300, "&#" * 200, "'" * 512, "-" * 512]
)
def test_text_without_words_has_no_terms(text: str) -> None:
    assert terms("en", text) == []


def test_a_tag_that_never_ends_is_text() -> None:
    assert terms("en", "size <br sofa a<b") == ["size", "br", "sofa", "a", "b"]
