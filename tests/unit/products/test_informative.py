"""Attributes are chosen by coverage and number of values, whatever their names are."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from models.products.attributes.informative import longest_prose, shared_information
from models.sample_store import SampleStore
from tests.conftest import RealData


def test_what_many_have_in_many_values_tells_most() -> None:
    products = [
        {
            "tint": "abcdefgh"[at % 8],  # 3 bits
            "half": "xy"[at % 2],  # 1 bit
            "rare": "abcdefgh"[at % 8] if at < 20 else "",
            "same": "yes",
            "code": f"{chr(97 + at // 26)}{chr(97 + at % 26)}-own",
            "width": f"{at % 8} cm",
            "about": "a long text that says something of every product",
        }
        for at in range(200)
    ]
    bits = shared_information(products)
    assert list(bits)[:3] == ["tint", "half", "rare"]
    assert (bits["tint"], bits["half"]) == pytest.approx((3.0, 1.0))
    assert bits["same"] == bits["code"] == 0
    assert "width" not in bits
    assert "about" not in bits
    assert longest_prose(products) == "about"


def test_case_and_blanks_make_no_other_value() -> None:
    assert shared_information([{"tint": " Red"}, {"tint": "red"}]) == {"tint": 0.0}


def test_nothing_is_told_by_no_products() -> None:
    assert shared_information([]) == {}
    assert longest_prose([{"tint": "red"}]) is None


def test_the_sample_stores_own_attributes_are_found_without_their_names() -> None:
    store = SampleStore(2_000, 0)
    told = list(shared_information(store.product(at).attributes for at in range(len(store))))
    assert set(told[:4]) == {"colour", "material", "style", "feature"}


def test_of_thousands_of_names_those_that_describe_are_found(real_data: RealData) -> None:
    column = pq.read_table(real_data("icecat_products.parquet"), columns=["attributes"])["attributes"]
    bits = shared_information(dict(cell or ()) for cell in column.to_pylist())
    first = list(bits)[:8]
    assert first[0] == "product_colour"
    assert {"country_of_origin", "print_technology", "printing_colours", "brand_compatibility"} <= set(first)
