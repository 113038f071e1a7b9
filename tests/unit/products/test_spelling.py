"""Typing errors are mended where one word explains them, doubts are told, and no known word is touched."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.draws import Draws
from models.products import spelling
from models.products.changes import AddedProducts, RemovedProducts
from models.products.language_words import language_of, language_words
from models.products.product import Product
from models.products.spelling import Correction, Mending, Speller
from models.typing_errors import misspell

COUNTS = {"samsung": 40, "headphones": 30, "noise": 20, "canceling": 12, "samson": 3, "panasonic": 9, "rarity": 1}
CATALOGUE = "electronics_catalogue.parquet"


@pytest.fixture
def speller() -> Speller:
    return Speller(COUNTS, vocabulary=["couch", "voice", "house"])


def shop(*titles: str, brands: Iterable[str] = (), copies: int = 40) -> Speller:
    """A speller of a shop with some products of each title and of each brand."""
    texts = [(title, "") for title in titles] + [("thing", brand) for brand in brands]
    return Speller.build(Product(f"{n}-{title}", title, brand) for title, brand in texts for n in range(copies))


@pytest.mark.parametrize(
    ("query", "mended"),
    [
        ("samsnug tv", "samsung tv"),
        ("Samsnug TV", "samsung TV"),
        ("noize canceling hedphones", "noise canceling headphones"),
        ("pansonic, phone", "panasonic, phone"),
        ("headhpones", "headphones"),
    ],
)
def test_an_unknown_word_is_replaced_by_the_one_word_that_explains_it(
    speller: Speller, query: str, mended: str
) -> None:
    assert speller.may_need_mending(query, "")
    mending = speller.mend(query, "")
    assert mending.query == mended
    assert mending.alternatives == ()
    assert all(correction.certain for correction in mending.corrections)
    assert [query[c.start : c.end] for c in mending.corrections] == [c.word for c in mending.corrections]


@pytest.mark.parametrize(
    "query",
    [
        "samsung headphones",  # in the catalogue
        "couch voice house",  # in the vocabulary
        "rarityy",  # its only neighbour is too rare to be trusted
        "tvs nois",  # too short
        "HX-4210 MG5220",  # no words
        "zzzzzzzz",  # near nothing
        "samsung's",
        "",
    ],
)
def test_a_known_word_a_short_word_and_a_word_near_nothing_stay(speller: Speller, query: str) -> None:
    assert speller.mend(query, "") == Mending(query)


@pytest.mark.parametrize(
    ("sold", "query"),
    [
        ("shirt", "skirt"),
        ("rackets", "jackets"),
        ("tower", "towel"),
        ("sports", "shorts"),
        ("candy", "candle"),
        ("dressed", "dresser"),
        ("airport", "airpods"),
        ("pointer", "printer ink"),
        ("sofa chair", "chairs sofas"),
    ],
)
def test_a_word_of_the_language_is_not_the_similar_word_that_the_shop_sells(sold: str, query: str) -> None:
    assert shop(sold).mend(query, "en") == Mending(query)
    assert not shop(sold).may_need_mending(query, "en")


@pytest.mark.parametrize(
    ("language", "sold", "query"),
    [
        ("de", "Lederhose", "Ledersofa"),  # both halves are known
        ("de", "Arbeitslust", "Arbeitstisch"),
        ("de", "Schalke", "schale schalen"),
        ("fr", "chapeau", "chameau chameaux"),
        ("es", "cabello", "caballo"),
        ("nl", "tafel", "wafel"),
        ("sv", "stolpe", "stolen"),
    ],
)
def test_words_forms_and_compounds_of_each_language_stay(language: str, sold: str, query: str) -> None:
    assert shop(sold).mend(query, language) == Mending(query)


def test_the_language_decides_what_is_an_error() -> None:
    speller = shop("kitchen", "kuchen")
    assert speller.mend("kuechen", "de").corrections == ()
    assert shop("jacket").mend("jacke", "de") == Mending("jacke")
    assert shop("jacket").mend("jakcet", "de").query == "jacket"


def test_every_field_of_a_product_makes_its_words_known() -> None:
    attributes = {"material": "polyrattan", "text": "with a frobnicator inside"}
    products = [Product("1", "Velvet Quuxer", "Blorpo", "Gleeber > Things", attributes=attributes)]
    near = [Product(str(n), "polyrattany frobnicators quuxers blorpos gleebers") for n in range(50, 90)]
    query = "polyrattan frobnicator quuxer blorpo gleeber"
    speller = Speller.build([*products, *near])
    assert speller.mend(query, "en") == Mending(query)
    assert not speller.may_need_mending(query, "en")


def test_two_brands_that_are_equally_near_are_both_readings_and_nothing_is_decided() -> None:
    for copies in (1, 40):
        mending = shop(brands=["Nokira", "Nikora"], copies=copies).mend("nokora kettle", "en")
        assert mending.query == "nokora kettle"
        assert set(mending.alternatives) == {"nokira kettle", "nikora kettle"}
        (correction,) = mending.corrections
        assert (correction.word, correction.start, correction.end, correction.certain) == ("nokora", 0, 6, False)
        assert set(correction.into) == {"nokira", "nikora"}


def test_with_one_of_the_brands_alone_there_is_no_doubt() -> None:
    assert shop(brands=["Nokira"]).mend("nokora kettle", "en").query == "nokira kettle"


def test_of_two_equally_near_words_one_that_is_a_hundred_times_as_frequent_is_meant() -> None:
    speller = Speller({"nokira": 2_000, "nikora": 3})
    assert speller.mend("nokora", "en") == Mending("nokira", (Correction("nokora", 0, 6, ("nokira",), True),))
    assert not Speller({"nokira": 60, "nikora": 3}).mend("nokora", "en").corrections[0].certain


def test_an_error_in_a_word_of_the_language_is_not_read_as_a_farther_word_of_the_shop() -> None:
    mending = shop("tennis rackets").mend("waterprof jakcets", "en")
    assert mending.query == "waterproof jackets"


@pytest.mark.parametrize(("sold", "typed"), [("sense", "senseo"), ("freedom", "freexom"), ("samsung", "samsunk")])
def test_an_error_that_fingers_seldom_make_may_be_a_name_and_is_never_certain(sold: str, typed: str) -> None:
    mending = shop(sold).mend(typed, "en")
    assert (mending.query, mending.alternatives[0]) == (typed, sold)


@pytest.mark.parametrize("typed", ["samung", "samsumg", "samsyng", "samsungg", "samsumng", "sansung", "sumsung"])
def test_slips_of_the_fingers_and_letters_that_sound_alike_are_mended(typed: str) -> None:
    assert shop("samsung").mend(typed, "en").query == "samsung"


def test_an_accent_that_is_left_out_is_put_back() -> None:
    assert Speller({"zlömpi": 40, "zlampi": 40}).mend("zlompi", "").query == "zlömpi"


def test_certain_and_unsure_words_stand_side_by_side() -> None:
    mending = shop("headphones", brands=["Nokira", "Nikora"]).mend("nokora hedphones and nokora", "en")
    assert mending.query == "nokora headphones and nokora"
    assert [correction.certain for correction in mending.corrections] == [False, True, False]
    assert 1 <= len(mending.alternatives) <= 3
    assert all("headphones" in query for query in mending.alternatives)
    assert mending.alternatives[0] in {"nokira headphones and nokira", "nikora headphones and nikora"}


def test_a_reading_that_is_far_from_sure_is_searched_beside_the_query() -> None:
    speller = Speller({"gizzmo": 3, **{f"word{n}": 2_000 for n in range(500)}})
    mending = speller.mend("gxzzmo", "")
    assert (mending.query, mending.alternatives) in {("gxzzmo", ("gizzmo",)), ("gxzzmo", ())}
    assert speller.mend("gizmo", "").corrections[0].certain


def test_a_rare_word_of_the_language_may_be_a_typing_error_and_is_never_replaced() -> None:
    speller = Speller({"running": 50, "shoes": 90, "jockeys": 40, "bidets": 30})
    mending = speller.mend("runing shoes", "en")  # the list of the language has "runing", a little
    assert (mending.query, mending.alternatives) == ("runing shoes", ("running shoes",))
    for query in ("jersey shoes", "budget shoes"):  # frequent words, one error from rarer ones of the shop
        assert speller.mend(query, "en").alternatives == ()


@pytest.mark.parametrize("query", ["chaix2003", "CHAIX-2009", "chaix_x", "mail@chaix.de", "www.chaix.de"])
def test_model_numbers_and_addresses_are_no_typing_errors(query: str) -> None:
    assert shop("chair").mend(query, "en") == Mending(query)


def test_places_that_were_found_to_be_identifiers_stay() -> None:
    speller = shop("lounge chair")
    assert speller.mend("lounge chiar", "").query == "lounge chair"
    assert speller.mend("lounge chiar", "", spared=[(7, 12)]) == Mending("lounge chiar")
    assert speller.mend("chiar chiar 2003", "", spared=[(6, 16)]).query == "chair chiar 2003"


@pytest.mark.parametrize("query", ["ソファーカバー", "无线蓝牙耳机", "โซฟาหนังแท้"])
def test_scripts_without_blanks_are_left_alone(query: str) -> None:
    assert shop(query[:-1]).mend(query, "ja") == Mending(query)


@given(st.text(max_size=60), st.sampled_from(["", "en", "de", "xx"]))
def test_any_text_is_mended_without_error_and_mending_twice_changes_nothing_more(text: str, language: str) -> None:
    speller = Speller(COUNTS, names=["samson"])
    mending = speller.mend(text, language)
    assert speller.mend(mending.query, language).query == mending.query
    assert all(text[c.start : c.end] == c.word and c.into for c in mending.corrections)
    if not speller.may_need_mending(text, language):
        assert mending == Mending(text)


def test_words_are_counted_once_per_product_and_survive_saving(tmp_path: Path) -> None:
    products = [
        Product(id=str(n), title="Velvet velvet Sofa", brand="Halden", category="Living Room") for n in range(4)
    ]
    Speller.build([*products, Product("x", "Sofa", "Ommelin")]).save(tmp_path)
    loaded = Speller.load(tmp_path)
    assert loaded.mend("velvte sofa by haldne", "").query == "velvet sofa by halden"
    assert loaded.mend("omelin", "").query == "ommelin"  # of one product, but a brand
    assert not loaded.may_need_mending("living", "")


def appended(speller: Speller, *products: Product) -> Speller:
    speller.append(AddedProducts(0, products, np.zeros((0, 0), np.float16)))
    return speller


def test_words_of_a_new_product_are_known_at_once() -> None:
    speller = Speller(COUNTS)
    assert speller.mend("samsnug", "").query == "samsung"
    appended(speller, Product("1", "Samsnug tablet"))
    assert speller.mend("samsnug", "").query == "samsnug"
    assert not speller.may_need_mending("samsnug", "")


def test_words_of_new_products_are_what_others_may_mean_by_the_rules_of_the_build() -> None:
    speller = Speller(COUNTS)
    for n in range(3):
        assert speller.mend("glimmerwok", "").query == "glimmerwok"
        appended(speller, Product(str(n), "Glimmerwork lamp"))
    assert speller.mend("glimmerwok", "").query == "glimmerwork"
    assert speller.mend("ommelyn", "").query == "ommelyn"
    assert appended(speller, Product("x", "Sofa", "Ommelin")).mend("ommelyn", "").query == "ommelin"  # one, but a brand


@pytest.mark.parametrize("seed", range(5))
def test_appended_products_give_what_a_rebuild_gives(seed: int) -> None:
    rng = random.Random(seed)
    words = [
        f"{a}{b}{c}" for a in ("glim", "ommel", "nok", "hal") for b in ("a", "ir", "or") for c in ("den", "ra", "x")
    ]
    products = [
        Product(
            str(n), " ".join(rng.choices(words, k=3)), rng.choice(["", *words[::9]]), attributes={"a": words[n % 7]}
        )
        for n in range(60)
    ]
    grown, at = Speller.build(products[:10]), 10
    for size in (1, 1, 8, 40):
        appended(grown, *products[at : at + size])
        at += size
        anew = Speller.build(products[:at])
        assert grown.names == anew.names
        for word in words:
            assert grown.count(word) == anew.count(word)
            for query in (misspell(word, Draws(seed)), word):
                assert grown.mend(query, "") == anew.mend(query, "")


def test_words_of_removed_products_stay_known() -> None:
    products = [Product(str(n), "Glimmerwork lamp") for n in range(40)]
    speller = Speller.build(products)
    speller.remove(RemovedProducts(np.arange(40), products))
    assert speller.mend("glimmerwok", "").query == "glimmerwork"


def test_the_words_of_an_older_bundle_are_read(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(COUNTS))
    assert Speller.load(tmp_path).mend("samsnug", "").query == "samsung"


@pytest.mark.parametrize("content", [[], {"a": "b"}, {"counts": {"a": 1}, "names": "a"}, {"counts": {"a": None}}])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "words.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"it does not hold words|names are not a list"):
        Speller.load(tmp_path)


def test_words_of_the_same_count_are_stored_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    words = ["pear", "fig", "apple", "quince", "cherry", "plum", "lime", "grape"]
    Speller.build([Product("1", " ".join(words)), Product("2", "quince")]).save(tmp_path)
    (stored,) = tmp_path.iterdir()
    assert list(json.loads(stored.read_text())["counts"]) == ["quince", *sorted(set(words) - {"quince"})]


def test_the_words_of_long_texts_are_bounded_and_brands_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spelling, "MAX_WORDS", 10)
    letters = "abcdefghij"
    texts = [f"{a}{b}{c}xyz" for a in letters for b in letters for c in letters]
    Speller.build(Product(text, f"often {text}", "Halden") for text in texts).save(tmp_path)
    counts = json.loads((tmp_path / "words.json").read_text())["counts"]
    assert len(counts) == 10
    assert counts["often"] == counts["halden"] == 1_000


def test_the_language_of_a_locale() -> None:
    assert [language_of(locale) for locale in ("de-AT", "en_GB", "FR", "")] == ["de", "en", "fr", ""]


def test_frequencies_are_those_of_the_language_and_unknown_languages_have_none() -> None:
    assert language_words("en").zipf("towel") > 3 > language_words("en").zipf("trivet") > 0
    assert language_words("de").zipf("handtuch") > 3 > language_words("en").zipf("handtuch")
    assert language_words("no").zipf("og") > 5  # Bokmål
    assert language_words("xx").zipf("towel") == 0


def test_misspelt_brands_of_a_real_catalogue_are_mended_and_real_words_never_changed(
    real_data: Callable[[str], Path],
) -> None:
    rows = pq.read_table(real_data(CATALOGUE), columns=["upc", "name", "manufacturer"]).to_pylist()
    speller = Speller.build(Product(row["upc"], row["name"], row["manufacturer"] or "") for row in rows)
    brands = [word for word in sorted(speller.names) if len(word) >= 5 and speller.count(word) >= 3][::3][:300]
    mendings = [(brand, speller.mend(misspell(brand, Draws(n)), "en")) for n, brand in enumerate(brands)]
    right = sum(mending.query == brand for brand, mending in mendings)
    told = sum(brand in mending.alternatives for brand, mending in mendings)
    silently_wrong = [m.query for brand, m in mendings if any(c.certain for c in m.corrections) and m.query != brand]
    assert right / len(brands) > 0.7
    assert (right + told) / len(brands) > 0.8
    assert len(silently_wrong) / len(brands) <= 0.01
    common = [
        word for shape, bucket in language_words("en").frequent.items() if isinstance(shape, int) for word in bucket
    ][::10]
    assert len(common) > 2_000
    assert [word for word in common if speller.mend(word, "en").corrections] == []
