"""The vocabulary is large, and a slip in its files is reported with the file and the key."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from models.sample_store.brands import load_brands, load_series, read_brand
from models.sample_store.data_file import DataFileError, DataTable, data_folder
from models.sample_store.product_types import DEPARTMENT_FILES, departments, load_product_types, read_product_type
from models.sample_store.words import Word, load_words, read_words


def type_table(changes: dict[str, Any]) -> DataTable:
    """The data file of furniture with changed values of its first type, the sofa; None takes a key out."""
    values = tomllib.loads(data_folder().joinpath("product_types/furniture.toml").read_text(encoding="utf-8"))
    values["sofa"] = {key: value for key, value in (values["sofa"] | changes).items() if value is not None}
    return DataTable("furniture.toml", "", values)


class TestData:
    def test_it_is_large_and_without_repeats(self) -> None:
        types, brands = load_product_types(), load_brands()
        assert len({kind.name for kind in types}) == len(types) >= 72
        assert len({kind.category for kind in types}) == len(types)
        assert len({brand.name for brand in brands}) == len(brands) >= 100
        assert len(load_series()) >= 90
        assert len(departments()) >= 8
        assert sum(bool(kind.accessory_of) for kind in types) >= 8

    def test_every_department_has_a_file_and_brands(self) -> None:
        files = {path.name for path in data_folder().joinpath("product_types").iterdir()}
        assert files == {f"{name}.toml" for name in DEPARTMENT_FILES}
        assert set(departments()) == {department for brand in load_brands() for department in brand.departments}

    def test_no_seller_of_a_type_uses_its_shopper_words(self) -> None:
        for kind in load_product_types():
            assert kind.shopper_nouns
            assert not {noun.lower() for noun in kind.nouns} & set(kind.shopper_nouns), kind.name

    def test_words_have_the_order_of_their_file(self) -> None:
        words = load_words()
        assert words.colours[:2] == (Word("Black", ("jet black",)), Word("White", ("pure white",)))
        assert [word.seller for word in words.audiences] == ["Women's", "Men's", "Girls'", "Boys'", "Unisex"]
        assert len(words.price) == 5
        assert words.price[2] == ()  # nobody asks for the middle of the range


class TestProductTypes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"share": "4"}, "sofa.share must be an integer from 1 to 100, not '4'"),
            ({"share": True}, "sofa.share must be an integer from 1 to 100, not True"),
            ({"share": None}, "sofa.share is missing"),
            ({"size_step": 65}, "sofa.size_step must be an integer from 0 to 64, not 65"),
            ({"price_dollars": [300, 200]}, "sofa.price_dollars must be [lowest, highest], not [300, 200]"),
            ({"price_dollars": 300}, "sofa.price_dollars must be [lowest, highest], not 300"),
            ({"price_dollars": [0, 200]}, "sofa.price_dollars must be an integer from 1 to 100000, not 0"),
            ({"category": " Furniture"}, "sofa.category must be a text without outer blanks, not ' Furniture'"),
            ({"kind": "house"}, "sofa.kind has 'house', which is none of device, goods, home, wear"),
            ({"materials": ["Velvt"]}, "sofa.materials has 'Velvt', which is none of Acacia, "),
            ({"palette": "house"}, "sofa.palette has 'house', which is none of beauty, "),
            ({"style_family": "house"}, "sofa.style_family has 'house', which is none of care, "),
            ({"audiences": ["Adults"]}, "sofa.audiences has 'Adults', which is none of Boys', "),
            ({"accessory_of": "settee"}, "sofa.accessory_of has 'settee', which is none of armchair, "),
            ({"shopper_nouns": ["couch", "sofa"]}, "sofa.shopper_nouns has 'sofa', which sellers use"),
            ({"nouns": []}, "sofa.nouns must be a list of one or more different texts"),
            ({"uses": ["naps", "naps"]}, "sofa.uses must be a list of one or more different texts"),
            ({"features": {"USB Ports": "with charger"}}, "sofa.features.USB Ports must be a list"),
            ({"sizes": ["Small"]}, "sofa.sizes must be a table, not ['Small']"),
            ({"colour": "red"}, "sofa.colour is not a known key; the known ones are accessory_of, audiences, "),
        ],
    )
    def test_a_slip_is_reported_with_its_file_and_key(self, changes: dict[str, Any], message: str) -> None:
        file = type_table(changes)
        with pytest.raises(DataFileError, match=re.escape(f"furniture.toml: {message}")):
            read_product_type(file, "sofa", list(file))

    def test_a_type_is_defined_once(self) -> None:
        with pytest.raises(DataFileError, match=r"furniture.toml: sofa is defined in another file as well"):
            read_product_type(type_table({}), "sofa", ["sofa", "armchair", "sofa"])


def test_a_brand_has_known_departments_styles_and_a_tier() -> None:
    right: dict[str, object] = {"departments": ["Kitchen"], "tier": 1, "styles": ["Modern"]}
    for change, message in (
        ({"tier": 3}, "Halden.tier must be an integer from -2 to 2, not 3"),
        ({"departments": ["Kitchens"]}, "Halden.departments has 'Kitchens', which is none of Beauty, "),
        ({"styles": ["Modish"]}, "Halden.styles has 'Modish', which is none of Adventure, "),
    ):
        with pytest.raises(DataFileError, match=f"brands.toml: {message}"):
            read_brand(DataTable("brands.toml", "Halden", right | change), "Halden")


def test_words_are_read_from_a_table() -> None:
    table = DataTable.parse("a.toml", 'Navy = ["dark blue", "midnight"]\nRed = []')
    assert read_words(table) == (Word("Navy", ("dark blue", "midnight")), Word("Red"))


def test_a_file_that_is_no_toml_is_reported_with_its_name() -> None:
    with pytest.raises(DataFileError, match="a.toml: Cannot overwrite a value"):
        DataTable.parse("a.toml", "Red = []\nRed = []")
