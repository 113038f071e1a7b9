"""The candidates of a Rank call: each is found, or is new, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from aisle.v1 import product_pb2, ranking_pb2
from models.bundles.bundle import Bundle
from models.products.product import Product
from serving.config import AisleConfig, LimitsConfig, RankerConfig
from serving.errors import InvalidRequest, NotServed
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.rank import MAX_EXPLAINED, MAX_ON_LOOP, RankMessages
from serving.gateway.messages.ranking_fields import RankingFields

RANK = ranking_pb2.RankRequest
PRODUCT = product_pb2.Product
LIMITS = LimitsConfig(max_rank_candidates=3)


def messages_for(bundle: Bundle, has_ranker: bool = True) -> RankMessages:
    fields = RequestFields(bundle.manifest.locales, AisleConfig(limits=LIMITS))
    ranking = RankingFields(LIMITS, RankerConfig(), has_ranker=has_ranker)
    return RankMessages(bundle.manifest.version, bundle.products(), LIMITS, fields=fields, ranking=ranking)


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture(scope="module")
def messages(bundle: Bundle) -> RankMessages:
    return messages_for(bundle)


def refusals(messages: RankMessages, **fields: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        messages.read(RANK(**({"query": "sofa"} | fields)))  # type: ignore[arg-type]
    return {violation.field: violation.description for violation in caught.value.violations}


def test_candidates_are_rows_of_the_catalogue_products_of_the_caller_and_unknown_ids(messages: RankMessages) -> None:
    new = PRODUCT(id="new", title=" Caf\u0065\u0301  table ", brand="Nord", price_minor=5, in_stock=False)
    call, unknown = messages.read(RANK(query="sofa", product_ids=["A-1006", "gone", "A-1001"], products=[]))
    assert call.candidates.rows.tolist() == [5, 0]
    assert unknown == ("gone",)
    call, unknown = messages.read(RANK(query="sofa", product_ids=["A-1001"], products=[new]))
    assert call.candidates.rows.tolist() == [0]
    assert call.candidates.products == (
        Product(id="new", title="Café table", brand="Nord", price_minor=5, in_stock=False),
    )
    assert not unknown


def test_a_product_of_the_caller_needs_no_title(messages: RankMessages) -> None:
    call, _ = messages.read(RANK(query="sofa", products=[PRODUCT(id="new")]))
    assert [product.id for product in call.candidates.products] == ["new"]


def test_an_explained_call_explains_its_best(messages: RankMessages) -> None:
    numbers = [
        messages.read(RANK(query="sofa", product_ids=["A-1001"], explain=explain))[0].num_explained
        for explain in (False, True)
    ]
    assert numbers == [0, MAX_EXPLAINED]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({}, "product_ids", "hold 0 candidates; they must hold 1 to 3"),
        ({"product_ids": ["a", "b", "c", "d"]}, "product_ids", "hold 4 candidates"),
        ({"products": [PRODUCT(id=f"{n}") for n in range(4)]}, "products", "hold 4 candidates"),
        ({"product_ids": ["a", "b", "a"]}, "product_ids[2]", "is 'a', as product_ids[0] is: name each candidate once"),
        ({"product_ids": ["a"], "products": [PRODUCT(id="a")]}, "products[0].id", "is 'a', as product_ids[0] is"),
        ({"product_ids": [""]}, "product_ids[0]", "has 0 characters; it must have 1 to 256"),
        ({"products": [PRODUCT(title="x")]}, "products[0].id", "has 0 characters"),
        ({"products": [PRODUCT(id="a", price_minor=-1)]}, "products[0].price_minor", "is -1; it must be 0 or more"),
        ({"products": [PRODUCT.FromString(b"\xa0\x06\x01")]}, "products[0].100", "newer"),
        ({"product_ids": ["a"], "query": ""}, "query", "must not be empty"),
    ],
)
def test_a_candidate_that_cannot_be_is_named(
    messages: RankMessages, fields: dict[str, object], field: str, says: str
) -> None:
    assert says in refusals(messages, **fields)[field]


def test_a_bundle_without_a_ranker_says_so(bundle: Bundle) -> None:
    with pytest.raises(NotServed, match="holds no ranker"):
        messages_for(bundle, has_ranker=False).read(RANK(query="sofa", product_ids=["A-1001"]))


def test_a_call_of_many_candidates_leaves_the_event_loop() -> None:
    assert not RankMessages.is_long(RANK(product_ids=["a"] * MAX_ON_LOOP))
    assert RankMessages.is_long(RANK(product_ids=["a"] * MAX_ON_LOOP, products=[PRODUCT()]))
