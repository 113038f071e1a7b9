"""Numbers of offers as texts that mean them alone, and what makes two calls the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisle.v1 import catalogue_pb2, product_pb2
from models.products.attributes.parse import read_value
from models.products.attributes.spec import AttributeType
from serving.gateway.messages.catalogue import _content, number_text


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(("", "cm", "kg")))
def test_a_number_is_a_text_that_reads_as_it_or_none(value: float, unit: str) -> None:
    text = number_text(value, unit)
    if text is None:
        assert not math.isfinite(value) or not 1e-200 < abs(value) < 1e200
    else:
        assert read_value(text, AttributeType.NUMBER, unit) == (value,)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2 cm"),
        (-3.5, "-3.5 cm"),
        (1.234, "1.2340 cm"),
        (1e-7, "0.0000001 cm"),
        (0.125, "0.125 cm"),
        (0.0, "0 cm"),
    ],
)
def test_numbers_are_written_as_a_catalogue_writes_them(value: float, text: str) -> None:
    assert number_text(value, "cm") == text


def test_two_calls_are_the_same_if_they_ask_for_the_same() -> None:
    def upsert(attributes: dict[str, str], **fields: object) -> catalogue_pb2.UpsertProductsRequest:
        product = product_pb2.Product(id="p", title="t", attributes=attributes)
        return catalogue_pb2.UpsertProductsRequest(products=[product], **fields)  # type: ignore[arg-type]

    one = upsert({"a": "1", "b": "2"}, change_id="x")
    same = upsert({"b": "2", "a": "1"}, change_id="y", acknowledgement=catalogue_pb2.ACKNOWLEDGEMENT_LOGGED)
    assert _content(one) == _content(same) != _content(upsert({"a": "1"}))
    deletes = catalogue_pb2.DeleteProductsRequest(product_ids=["p"])
    offers = catalogue_pb2.UpdateOffersRequest(offers=[catalogue_pb2.Offer(product_id="p")])
    assert _content(deletes) != _content(offers)
