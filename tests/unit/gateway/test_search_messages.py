"""Whatever a caller sends becomes a search or one of the documented errors; the answer holds what the search returned."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aisle.v1 import product_pb2, search_pb2
from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from models.products.changes import AddedProducts, ChangedOffers
from models.products.product import Product
from models.ranking.feature_names import FEATURES
from serving.compute.facets import FacetCounts, FacetQuestion, Scope
from serving.compute.filter_masks import NO_FILTER, AttributeClause, FilterMasks, ProductFilter
from serving.compute.retrieval import Candidates
from serving.compute.value_order import Group, SortBy
from serving.config import AisleConfig, LimitsConfig, RankerConfig, TypesConfig
from serving.errors import InvalidRequest, StaleVersion, Violation
from serving.gateway.messages.checks import MAX_NAMED
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.products import ProductMessages
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchCall, SearchMessages
from serving.search.request import RankModel, TypeUse
from serving.search.results import Degradation, Factors, PhaseTime, Results

SEARCH = search_pb2.SearchRequest
FILTER = product_pb2.ProductFilter
PRODUCT = product_pb2.Product
LIMITS = LimitsConfig(max_results=50, max_page_size=20, default_page_size=3, max_embed_items=4)
FIELDS = RequestFields(("en-US", "de-DE"), AisleConfig(limits=LIMITS))


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


def messages_of(bundle: Bundle, manifest: Manifest | None = None, **options: Any) -> SearchMessages:
    products = bundle.products()
    options = {"fields": FIELDS, "ranking": RankingFields(LIMITS, RankerConfig())} | options
    return SearchMessages(
        manifest or bundle.manifest, products, FilterMasks(products, bundle.attributes()), LIMITS, **options
    )


@pytest.fixture(scope="module")
def messages(bundle: Bundle) -> SearchMessages:
    return messages_of(bundle)


def wrong(read: Callable[[Any], object], request: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(request)
    return {violation.field: violation.description for violation in caught.value.violations}


def outcome(messages: SearchMessages, request: SEARCH) -> SearchCall | InvalidRequest | StaleVersion:
    try:
        return messages.read(request)
    except (InvalidRequest, StaleVersion) as refusal:
        return refusal


def candidates(rows: list[int], **fields: Any) -> Candidates:
    scores, zeros = [1.0 - n / 10 for n in range(len(rows))], [0.0] * len(rows)
    stated: dict[str, Any] = {
        "rows": rows,
        "scores": scores,
        "similarities": scores,
        "identifier_boosts": zeros,
        "type_boosts": zeros,
        "feature_boosts": [()] * len(rows),
        "lexical_boosts": zeros,
        "coverages": zeros,
        "words": np.zeros((len(rows), 2), np.float32),
        "click_boosts": zeros,
        "vector_ranks": [n + 1 for n in range(len(rows))],
        "lexical_ranks": [0] * len(rows),
        "click_ranks": [0] * len(rows),
        "matched": {},
    }
    return Candidates(**(stated | fields))


def results(rows: list[int], offset: int = 0, has_more: bool = False, **fields: Any) -> Results:
    """A page with hits of these rows."""
    stated: dict[str, Any] = {
        "hits": candidates(rows),
        "offset": offset,
        "has_more": has_more,
        "retrieval_ranks": range(offset + 1, offset + len(rows) + 1),
        "phases": (PhaseTime("encode", 1.0, 2.0, 3),),
    }
    return Results(**(stated | fields))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
prices = st.none() | st.integers(-(2**63), 2**63 - 1)
filters = st.builds(
    FILTER,
    brands=st.lists(texts, max_size=70),
    categories=st.lists(texts, max_size=3),
    min_price_minor=prices,
    max_price_minor=prices,
    in_stock_only=st.booleans(),
)
requests = st.builds(
    SEARCH,
    query=texts | st.just("x" * 600),
    shopper_id=texts | st.just("s" * 129),
    locale=texts | st.sampled_from(["en-US", "DE-de"]),
    page_size=st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(1, 20),
    page_token=texts | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    filter=st.none() | filters,
    product_fields=st.lists(texts | st.sampled_from(["title", "attributes.colour"]), max_size=12),
    explain=st.booleans(),
)


class TestAnyRequest:
    @settings(max_examples=200)
    @given(request_=requests)
    @example(request_=SEARCH(query="sofa", page_token=base64.urlsafe_b64encode(bytes(22)).decode()))
    def test_it_is_read_or_refused_as_documented(self, messages: SearchMessages, request_: SEARCH) -> None:
        call = outcome(messages, request_)
        if isinstance(call, InvalidRequest):
            assert call.violations
            assert len(str(call)) < 100_000
        elif isinstance(call, StaleVersion):
            assert call.reason == "STALE_PAGE_TOKEN"
        else:
            self.check(messages, call)

    @staticmethod
    def check(messages: SearchMessages, call: SearchCall) -> None:
        search = call.search
        assert len(search.query.strip()) <= 3 * LIMITS.max_query_chars
        assert 1 <= search.page_size <= LIMITS.max_page_size
        assert set(call.product_fields) <= set(messages._products.fields)
        answer = messages.write(call, results([0, 5]))
        assert [hit.product_id for hit in answer.hits] == ["A-1001", "A-1006"]
        answer.SerializeToString()

    @settings(max_examples=200)
    @given(data=st.binary(max_size=60))
    def test_bytes_that_parse_are_no_exception(self, messages: SearchMessages, data: bytes) -> None:
        with contextlib.suppress(DecodeError, InvalidRequest, StaleVersion):
            messages.read(SEARCH.FromString(data))


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "read"),
        [
            ("  red sofa \n", "red sofa"),
            ("red\tsofa\r\nbig", "red sofa  big"),
            ("cafe\u0301", "café"),
            (" " * 600 + "x" * 512 + " " * 600, "x" * 512),
            ("sofa \u200d zero width", "sofa \u200d zero width"),
            ("🫨 \U0001fadf", "🫨 \U0001fadf"),  # assigned after the Unicode version of Python 3.11
            ("apple \uf8ff", "apple \uf8ff"),
            ("沙发 диван", "沙发 диван"),
        ],
        ids=ascii,
    )
    def test_what_shoppers_type_is_read(self, messages: SearchMessages, query: str, read: str) -> None:
        assert messages.read(SEARCH(query=query)).search.query == read

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("", "must not be empty"),
            (" \u3000\n", "must not be empty"),
            ("x" * 513, "has 513 characters; at most 512"),
            ("so\x00fa", "U+0000"),
            ("so\x85fa", "U+0085"),
        ],
        ids=ascii,
    )
    def test_what_is_no_query_is_refused(self, messages: SearchMessages, query: str, says: str) -> None:
        assert says in wrong(messages.read, SEARCH(query=query))["query"]


def test_a_request_that_says_nothing_else_gets_the_defaults(messages: SearchMessages) -> None:
    call = messages.read(SEARCH(query="sofa"))
    assert (call.search.page_size, call.search.offset, call.search.filter) == (3, 0, NO_FILTER)
    assert "attributes.colour" in call.product_fields
    assert not call.search.explain


@pytest.mark.parametrize(
    ("locale", "read"), [("", "en-US"), ("en-US", "en-US"), ("EN-us", "en-US"), ("de-DE", "de-DE"), ("DE-de", "de-DE")]
)
def test_locales_are_compared_without_case(messages: SearchMessages, locale: str, read: str) -> None:
    assert messages.read(SEARCH(query="sofa", locale=locale)).search.locale == read


class TestFilter:
    def test_it_is_read_as_it_stands(self, messages: SearchMessages) -> None:
        wanted = FILTER(brands=["Nord"], categories=["A > B"], min_price_minor=0, max_price_minor=7, in_stock_only=True)
        assert messages.read(SEARCH(query="x", filter=wanted)).search.filter == ProductFilter(
            ("Nord",), ("A > B",), 0, 7, True
        )

    def test_an_empty_one_is_none(self, messages: SearchMessages) -> None:
        assert messages.read(SEARCH(query="x", filter=FILTER())).search.filter == NO_FILTER

    def test_a_brand_is_written_as_the_catalogue_writes_it(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x", filter=FILTER(brands=[" Cafe\u0301 "])))
        assert call.search.filter.brands == ("Café",)

    def test_what_the_catalogue_does_not_hold_is_a_warning(self, messages: SearchMessages) -> None:
        wanted = FILTER(brands=["NORD", "Noord"], categories=["Furniture", "Sofas"])
        assert messages.read(SEARCH(query="x", filter=wanted)).warnings == (
            "filter.brands: the catalogue has no brand 'Noord'",
            "filter.categories: the catalogue has no category 'Sofas'",
        )

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            (FILTER(min_price_minor=2, max_price_minor=1), "filter.min_price_minor"),
            (FILTER(max_price_minor=-1), "filter.max_price_minor"),
            (FILTER(brands=["x" * 257]), "filter.brands[0]"),
            (FILTER(brands=["x", ""]), "filter.brands[1]"),
            (FILTER(categories=["x"] * 65), "filter.categories"),
        ],
    )
    def test_a_part_that_cannot_be_is_named(self, messages: SearchMessages, wanted: FILTER, field: str) -> None:
        assert set(wrong(messages.read, SEARCH(query="x", filter=wanted))) == {field}

    def test_equal_bounds_are_a_price(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x", filter=FILTER(min_price_minor=5, max_price_minor=5)))
        assert call.search.filter == ProductFilter((), (), 5, 5, False)


ATTRIBUTE = product_pb2.AttributeFilter
FACET = search_pb2.FacetRequest
RANGE = search_pb2.NumberRange
SORT = search_pb2.Sort


@pytest.fixture(scope="module")
def typed(build_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> SearchMessages:
    """Messages of a bundle with an attribute of each type."""
    folder = tmp_path_factory.mktemp("typed") / "bundle"
    facts = {"colour": "red", "width": "5 cm", "new": "yes", "released": "2024-05-31", "prose": "x" * 300}
    build_tiny(folder, [Product(f"P{n}", f"Sofa {n}", attributes=facts) for n in range(3)])
    return messages_of(Bundle(folder))


class TestAttributeFilter:
    def test_each_type_has_its_bounds(self, typed: SearchMessages) -> None:
        wanted = FILTER(
            attributes=[
                ATTRIBUTE(name="colour", values=["Red", " blue"]),
                ATTRIBUTE(name="width", min=1, max=5),
                ATTRIBUTE(name="new", **{"is": False}),
                ATTRIBUTE(name="released", from_date="1970-01-02", to_date="1970-01-02"),
            ]
        )
        call = typed.read(SEARCH(query="x", filter=wanted))
        assert call.search.filter.attributes == (
            AttributeClause("colour", ("Red", "blue")),
            AttributeClause("width", low=1.0, high=5.0),
            AttributeClause("new", low=0.0, high=0.0),
            AttributeClause("released", low=86_400_000.0, high=2 * 86_400_000.0 - 1),
        )
        assert call.warnings == ("filter.attributes: no product has 'blue' as 'colour'",)

    @pytest.mark.parametrize(
        ("attribute", "field", "says"),
        [
            (ATTRIBUTE(name="color", values=["red"]), "name", "did you mean 'colour'?"),
            (ATTRIBUTE(name="colour", min=1), "min", "is of type keyword: it goes with values"),
            (ATTRIBUTE(name="colour"), "", "it goes with values"),
            (ATTRIBUTE(name="colour", values=["x"] * 1001), "values", "has 1001 values; at most 1000"),
            (ATTRIBUTE(name="colour", values=["x", ""]), "values[1]", "must have 1 to 256 characters"),
            (ATTRIBUTE(name="width", values=["5"]), "values", "is of type number: it goes with min and max"),
            (ATTRIBUTE(name="width", min=2, max=1), "min", "is above max"),
            (ATTRIBUTE(name="width", min=float("nan")), "min", "must be a number"),
            (ATTRIBUTE(name="new", values=["yes"]), "values", "is of type bool: it goes with is"),
            (ATTRIBUTE(name="released", from_date="31.05.2024"), "from_date", "such as 2024-05-31"),
            (ATTRIBUTE(name="released", from_date="2024-06-02", to_date="2024-06-01"), "from_date", "is above to_date"),
            (ATTRIBUTE(name="prose", values=["x"]), "name", "which is prose"),
        ],
    )
    def test_what_does_not_go_with_the_attribute_is_refused(
        self, typed: SearchMessages, attribute: ATTRIBUTE, field: str, says: str
    ) -> None:
        violations = wrong(typed.read, SEARCH(query="x", filter=FILTER(attributes=[attribute])))
        assert list(violations) == ["filter.attributes[0]" + (f".{field}" if field else "")]
        assert says in next(iter(violations.values()))

    def test_an_attribute_comes_once_and_not_too_many(self, typed: SearchMessages) -> None:
        red = ATTRIBUTE(name="colour", values=["red"])
        assert "filter.attributes[1].name" in wrong(typed.read, SEARCH(query="x", filter=FILTER(attributes=[red] * 2)))
        assert "filter.attributes" in wrong(typed.read, SEARCH(query="x", filter=FILTER(attributes=[red] * 33)))


class TestFacets:
    def test_they_are_read_with_their_defaults(self, typed: SearchMessages) -> None:
        request = SEARCH(
            query="x", facets=[FACET(name="colour", value_text="re"), FACET(name="price", ranges=[RANGE(max=5)])]
        )
        assert typed.read(request).search.facets == (
            FacetQuestion("colour", 20, text="re"),
            FacetQuestion("price", 20, ((None, 5.0),)),
        )

    @pytest.mark.parametrize(
        ("facet", "field", "says"),
        [
            (FACET(name="colours"), "name", "did you mean 'colour'?"),
            (FACET(name="prose"), "name", "prose"),
            (FACET(name="colour", max_values=1001), "max_values", "it must be 1 to 1000"),
            (FACET(name="colour", ranges=[RANGE(min=1)]), "ranges", "is of type keyword"),
            (FACET(name="width", value_text="5"), "value_text", "is of type number"),
            (FACET(name="width", ranges=[RANGE()]), "ranges[0]", "must have min, max or both"),
            (FACET(name="width", ranges=[RANGE(min=2, max=1)]), "ranges[0].min", "above max"),
            (FACET(name="width", ranges=[RANGE(min=1)] * 101), "ranges", "at most 100"),
        ],
    )
    def test_what_cannot_be_counted_is_refused(
        self, typed: SearchMessages, facet: FACET, field: str, says: str
    ) -> None:
        violations = wrong(typed.read, SEARCH(query="x", facets=[facet]))
        assert says in violations[f"facets[0].{field}"]

    def test_counts_are_written_in_the_order_of_the_request(self, typed: SearchMessages) -> None:
        request = SEARCH(
            query="x", facets=[FACET(name="released"), FACET(name="width", ranges=[RANGE(min=1)]), FACET(name="new")]
        )
        counts = (
            FacetCounts(values=((86_400_000.0, 2),), num_values=1, num_products=3, bounds=(86_400_000.0, 86_400_000.0)),
            FacetCounts(ranges=(3,), num_values=1, num_products=3, scope=Scope.BEST),
            FacetCounts(values=((1.0, 3),), num_values=1, num_products=3),
        )
        answer = typed.write(typed.read(request), results([0], facets=counts, total=7, total_is_exact=True))
        released, width, new = answer.facets
        assert [(value.value, value.count) for value in released.values] == [("1970-01-02", 2)]
        assert (width.unit, width.values[0].range, width.values[0].count) == ("cm", RANGE(min=1), 3)
        assert [value.value for value in new.values] == ["true"]
        assert (released.counted_over, width.counted_over) == (search_pb2.FACET_SCOPE_ALL, search_pb2.FACET_SCOPE_BEST)
        assert (answer.total, answer.total_meaning) == (7, search_pb2.TOTAL_MEANING_EXACT)


class TestSortAndBrowse:
    def test_a_query_may_be_empty_where_something_selects(self, typed: SearchMessages) -> None:
        assert "query" in wrong(typed.read, SEARCH(query=" "))
        assert "query" in wrong(typed.read, SEARCH(query=" ", filter=FILTER()))
        for request in (SEARCH(filter=FILTER(in_stock_only=True)), SEARCH(sort=SORT(by="width", descending=True))):
            call = typed.read(request)
            assert (call.search.query, call.search.type_use, call.search.is_ranked) == ("", TypeUse.OFF, False)
        assert call.search.sort == SortBy("width", descending=True)

    @pytest.mark.parametrize(
        ("sort", "says"),
        [(SORT(by="widht"), "did you mean 'width'?"), (SORT(by="colour"), "is of type keyword"), (SORT(), "is ''")],
    )
    def test_what_does_not_order_is_refused(self, typed: SearchMessages, sort: SORT, says: str) -> None:
        assert says in wrong(typed.read, SEARCH(query="x", sort=sort))["sort.by"]

    def test_what_needs_a_query_is_refused_without(self, typed: SearchMessages) -> None:
        request = SEARCH(
            sort=SORT(by="price"), min_similarity=0.1, diversity=search_pb2.Diversity(max_each_brand=1, among=1)
        )
        assert {"min_similarity", "diversity"} <= set(wrong(typed.read, request))

    def test_a_group_is_a_keyword(self, typed: SearchMessages) -> None:
        assert typed.read(SEARCH(query="x", group_by="colour")).search.group_by == "colour"
        assert "is of type number" in wrong(typed.read, SEARCH(query="x", group_by="width"))["group_by"]
        assert "did you mean 'colour'?" in wrong(typed.read, SEARCH(query="x", group_by="colou"))["group_by"]

    def test_a_group_is_written_with_the_ids_of_the_others(self, typed: SearchMessages) -> None:
        page = results([0])
        groups = {0: Group("red", 2, (1, 2))}
        page = dataclasses.replace(page, hits=dataclasses.replace(page.hits, groups=groups))
        (hit,) = typed.write(typed.read(SEARCH(query="x", group_by="colour")), page).hits
        assert (hit.group.value, hit.group.num_others, list(hit.group.other_ids)) == ("red", 2, ["P1", "P2"])


class TestUnknownFields:
    FIELD_100 = b"\xa0\x06\x01"

    def test_one_that_may_change_the_answer_is_refused(self, messages: SearchMessages) -> None:
        assert "newer" in wrong(messages.read, SEARCH.FromString(self.FIELD_100))["100"]

    def test_one_inside_the_filter_is_refused(self, messages: SearchMessages) -> None:
        request = SEARCH(query="sofa", filter=FILTER.FromString(self.FIELD_100))
        assert set(wrong(messages.read, request)) == {"filter.100"}

    def test_fifty_thousand_of_them_make_a_short_refusal(self, messages: SearchMessages) -> None:
        many = b"".join(bytes([0x80 | (n << 3 & 0x78), 0x10 + n // 16, 1]) for n in range(500)) * 100
        assert len(wrong(messages.read, SEARCH.FromString(many))) <= MAX_NAMED + 1


class TestProductFields:
    def test_only_those_asked_for_are_filled(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x", product_fields=["price_minor", "attributes.colour", "price_minor"]))
        (hit,) = messages.write(call, results([0])).hits
        assert hit.product == PRODUCT(id="A-1001", price_minor=49_900, attributes={"colour": "red"})
        assert hit.product_id == "A-1001"

    def test_what_a_product_lacks_is_absent_and_not_empty(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x"))
        bed, lamp = (hit.product for hit in messages.write(call, results([2, 5])).hits)
        assert not bed.HasField("price_minor")
        assert dict(bed.attributes) == {}
        assert (lamp.HasField("price_minor"), lamp.price_minor, lamp.brand) == (True, 0, "")
        assert lamp.HasField("in_stock")

    def test_new_attributes_and_offers_are_seen(self, bundle: Bundle) -> None:
        products = bundle.products()
        messages = ProductMessages(products)
        violations: list[Violation] = []
        every = messages.read_fields((), violations)
        assert messages.write(0, every).price_minor == 49_900
        new = Product("N", "Lamp", attributes={"watts": "9"})
        products.append(AddedProducts(len(products), [new], np.zeros((1, 4), np.float16)))
        offer = dataclasses.replace(products.product(0), price_minor=5)
        products.change_offers(ChangedOffers(np.array([0]), [offer], np.zeros((1, 0), np.float16)))
        assert messages.write(0, every).price_minor == 5
        fields = messages.read_fields(("title", "attributes.watts"), violations)
        assert (fields, violations) == (("title", "attributes.watts"), [])
        assert messages.write(len(products) - 1, fields) == PRODUCT(id="N", title="Lamp", attributes={"watts": "9"})
        assert messages.write(0, fields) == PRODUCT(id="A-1001", title="Velvet Sofa")

    def test_unknown_ones_are_named_with_those_there_are(self, messages: SearchMessages) -> None:
        found = wrong(messages.read, SEARCH(query="x", product_fields=["title", "colour", "id"]))
        assert set(found) == {"product_fields[1]", "product_fields[2]"}
        assert "'colour' is unknown; known are title, brand" in found["product_fields[1]"]

    def test_a_hundred_thousand_unknown_ones_make_a_short_refusal(self, messages: SearchMessages) -> None:
        request = SEARCH(query="x", product_fields=[f"f{n}" for n in range(100_000)])
        with pytest.raises(InvalidRequest) as caught:
            messages.read(request)
        assert len(str(caught.value)) < 5_000

    def test_a_field_asked_for_often_is_one_field(self, messages: SearchMessages) -> None:
        assert messages.read(SEARCH(query="x", product_fields=["brand", "title"] * 100)).product_fields == (
            "title",
            "brand",
        )


class TestPages:
    def test_a_token_leads_to_the_hits_after_the_page(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x"))
        page = messages.write(call, results([3, 1], offset=4, has_more=True))
        assert messages.read(SEARCH(query="x", page_token=page.next_page_token)).search.offset == 6

    def test_the_last_page_has_no_token(self, messages: SearchMessages) -> None:
        assert messages.write(messages.read(SEARCH(query="x")), results([0])).next_page_token == ""

    def test_a_page_holds_its_own_hits_with_their_ranks(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x", explain=True))
        hits = candidates([4, 0], scores=[0.8, 0.7], matched={4: ["A-1005"]})
        answer = messages.write(call, results([4, 0], offset=2, hits=hits))
        assert [(hit.product_id, hit.explanation.rank) for hit in answer.hits] == [("A-1005", 3), ("A-1001", 4)]
        assert [list(hit.explanation.matched_identifiers) for hit in answer.hits] == [["A-1005"], []]
        assert answer.hits[0].score == pytest.approx(0.8)

    def test_a_page_past_the_end_is_empty(self, messages: SearchMessages) -> None:
        call = messages.read(SEARCH(query="x"))
        assert not messages.write(call, results([], offset=40)).hits


@pytest.fixture(scope="module")
def boosting(bundle: Bundle) -> SearchMessages:
    """Of a bundle with two boosts."""
    return messages_of(bundle, dataclasses.replace(bundle.manifest, boosts=("popularity", "new")))


class TestBoosts:
    def test_weights_are_read_in_the_order_of_the_bundle(self, boosting: SearchMessages) -> None:
        for stated, weights in (
            ({"new": 0.5, "popularity": -1.0}, (-1.0, 0.5)),
            ({"new": 1.0}, (0.0, 1.0)),
            ({"new": 0.0, "popularity": -0.0}, ()),
            ({}, ()),
        ):
            assert boosting.read(SEARCH(query="x", boosts=stated)).search.boosts == weights

    @pytest.mark.parametrize("weight", [1.01, -1.01, float("nan"), float("inf"), float("-inf"), 1e30])
    def test_a_weight_out_of_range_is_named_with_the_range(self, boosting: SearchMessages, weight: float) -> None:
        refused = wrong(boosting.read, SEARCH(query="x", boosts={"new": weight, "popularity": 0.1}))
        assert refused == {'boosts["new"]': f"is {weight:g}; it must be -1 to 1"}

    def test_an_unknown_name_is_named_with_those_there_are(self, boosting: SearchMessages) -> None:
        refused = wrong(boosting.read, SEARCH(query="x", boosts={'fresh"': 0.1, "": 0.0, "new": 0.1}))
        unknown = "is unknown; known are popularity, new"
        assert refused == {'boosts["fresh\\""]': unknown, 'boosts[""]': unknown}

    def test_a_bundle_without_boosts_says_so(self, messages: SearchMessages) -> None:
        assert wrong(messages.read, SEARCH(query="x", boosts={"new": 0.0})) == {
            "boosts": "must be empty: the served bundle has no boosts"
        }

    def test_a_hundred_thousand_unknown_ones_make_a_short_refusal(self, boosting: SearchMessages) -> None:
        assert len(wrong(boosting.read, SEARCH(query="x", boosts={f"f{n}": 0 for n in range(100_000)}))) == 32

    def test_a_page_belongs_to_its_weights(self, boosting: SearchMessages) -> None:
        call = boosting.read(SEARCH(query="x", boosts={"new": 0.5}))
        token = boosting.write(call, results([0, 1], has_more=True)).next_page_token
        for stated in ({"new": 0.25}, {"popularity": 0.5}, {}):
            refused = wrong(boosting.read, SEARCH(query="x", boosts=stated, page_token=token))
            assert "does not belong" in refused["page_token"]
        again = SEARCH(query="x", boosts={"new": 0.5, "popularity": 0}, page_token=token)
        assert boosting.read(again).search.offset == 2

    def test_an_explained_hit_tells_what_each_boost_added(self, boosting: SearchMessages) -> None:
        call = boosting.read(SEARCH(query="x", boosts={"new": 0.5, "popularity": -0.25}, explain=True))
        page = results([3, 1], hits=candidates([3, 1], feature_boosts=[(-0.125, 0.5), (-0.25, 0.0)]))
        hits = boosting.write(call, page).hits
        assert [dict(hit.explanation.boosts) for hit in hits] == [
            {"popularity": -0.125, "new": 0.5},
            {"popularity": -0.25},
        ]


class TestRanking:
    @pytest.fixture
    def ranking(self, bundle: Bundle) -> SearchMessages:
        fields = RankingFields(LIMITS, RankerConfig(), has_ranker=True, has_teacher=True)
        return messages_of(bundle, ranking=fields)

    def test_a_page_belongs_to_its_ranking(self, ranking: SearchMessages) -> None:
        call = ranking.read(SEARCH(query="x", rank_weights={"click": 1}, rank_depth=30))
        token = ranking.write(call, results([0, 1], has_more=True)).next_page_token
        again = SEARCH(query="x", rank_weights={"click": 1}, rank_depth=30, page_token=token)
        assert ranking.read(again).search.offset == 2
        for changes in (
            {"rank_weights": {"click": 2}},
            {"rank_depth": 31},
            {"rank_model": search_pb2.RANK_MODEL_TEACHER},
            {"rank_model": search_pb2.RANK_MODEL_NONE},
            {"diversity": {"max_each_brand": 1, "among": 2}},
        ):
            stated = {"rank_weights": {"click": 1}, "rank_depth": 30} | changes
            refused = wrong(ranking.read, SEARCH(query="x", page_token=token, **stated))  # type: ignore[arg-type]
            assert "does not belong" in refused["page_token"]

    def test_what_is_the_same_ranking_said_otherwise_has_the_same_pages(self, ranking: SearchMessages) -> None:
        usual = ranking.read(SEARCH(query="x"))
        for stated in (
            SEARCH(query="x", rank_model=search_pb2.RANK_MODEL_STUDENT),
            SEARCH(query="x", rank_depth=200, rank_weights={"click": 1, "cart": 4, "purchase": 16}),
        ):
            assert ranking.read(stated).digest == usual.digest

    def test_an_answer_says_what_ranked_it_and_what_was_less(self, ranking: SearchMessages) -> None:
        call = ranking.read(SEARCH(query="x", explain=True))
        numbers = np.arange(len(FEATURES), dtype=np.float32)
        page = results(
            [2, 0, 1],
            retrieval_ranks=[3, 1, 2],
            chances=[(0.5, 0.25, 0.125, 3.5), (0.5, 0.25, 0.0, 1.5)],
            ranked_by=RankModel.STUDENT,
            ranked_depth=2,
            degradations=(Degradation("teacher", "gone"),),
            factors={2: Factors(numbers, numbers - len(FEATURES))},
        )
        answer = ranking.write(call, page)
        assert (answer.ranked_by, answer.ranked_depth) == (search_pb2.RANK_MODEL_STUDENT, 2)
        assert [(one.part, one.reason) for one in answer.degradations] == [("teacher", "gone")]
        assert [hit.HasField("chances") for hit in answer.hits] == [True, True, False]
        first = answer.hits[0]
        assert (first.chances.click, first.chances.cart, first.chances.purchase) == (0.5, 0.25, 0.125)
        assert first.blend == 3.5
        assert [hit.explanation.retrieval_rank for hit in answer.hits] == [3, 1, 2]
        told = [one.contribution for one in first.explanation.rank_factors]
        assert [abs(one) for one in told] == sorted(map(abs, told), reverse=True)
        assert first.explanation.rank_factors[0].feature == FEATURES[0]
        plain = ranking.write(call, results([0, 1]))
        assert plain.ranked_by == search_pb2.RANK_MODEL_NONE

    def test_fields_of_a_newer_contract_are_refused(self, ranking: SearchMessages) -> None:
        newer = search_pb2.RankWeights.FromString(b"\x0d\x00\x00\x80\x3f\x25\x00\x00\x80\x3f")  # click, and a field 4
        assert "rank_weights.4" in wrong(ranking.read, SEARCH(query="x", rank_weights=newer))


def test_the_answer_says_which_queries_were_searched_and_which_found_each_hit(messages: SearchMessages) -> None:
    call = messages.read(SEARCH(query="nokora", explain=True))
    found = results([0, 1], hits=candidates([0, 1], readings=[2, 1]), searched_queries={1: "nikora", 2: "nokira"})
    answer = messages.write(call, found)
    assert list(answer.searched_queries) == ["nikora", "nokira"]
    assert [hit.explanation.query for hit in answer.hits] == ["nokira", "nikora"]
    plain = messages.write(call, results([0]))
    assert (list(plain.searched_queries), plain.hits[0].explanation.query) == ([], "")


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (None, search_pb2.FACET_SCOPE_UNSPECIFIED),
        (Scope.ALL, search_pb2.FACET_SCOPE_ALL),
        (Scope.MATCHING, search_pb2.FACET_SCOPE_MATCHING),
        (Scope.BEST, search_pb2.FACET_SCOPE_BEST),
    ],
)
def test_the_answer_says_over_what_a_value_orders(messages: SearchMessages, scope: Scope | None, told: int) -> None:
    call = messages.read(SEARCH(query="sofa"))
    assert messages.write(call, results([0], sorted_over=scope)).sorted_over == told


def test_no_hits_are_explained_beside_what_had_no_effect(messages: SearchMessages) -> None:
    call = messages.read(SEARCH(query="sofa", filter=FILTER(brands=["nobody"])))
    answer = messages.write(call, results([], notice="no hits: none"))
    assert "nobody" in answer.warnings[0]
    assert answer.warnings[1] == "no hits: none"


def test_all_violations_of_a_request_come_together(messages: SearchMessages) -> None:
    request = SEARCH(
        query="\x00",
        page_size=0,
        locale="xx",
        shopper_id="\n",
        page_token="x",
        product_fields=["y"],
        filter=FILTER(brands=[""]),
    )
    assert set(wrong(messages.read, request)) == {
        "query",
        "page_size",
        "locale",
        "shopper_id",
        "page_token",
        "product_fields[0]",
        "filter.brands[0]",
    }


class TestProductTypes:
    def test_unset_means_what_the_service_is_configured_for(self, bundle: Bundle, messages: SearchMessages) -> None:
        assert messages.read(SEARCH(query="sofa")).search.type_use is TypeUse.OFF
        for use in TypeUse:
            typed = messages_of(bundle, types=TypesConfig(use=use.value, boost=0.3))
            read = typed.read(SEARCH(query="sofa")).search
            assert (read.type_use, read.type_boost) == (use, 0.3 if use in (TypeUse.BOOST, TypeUse.FILTER) else 0.0)

    def test_a_page_belongs_to_its_use_and_weight(self, bundle: Bundle) -> None:
        typed = messages_of(bundle, types=TypesConfig())
        digests = {
            typed.read(request).digest
            for request in (
                SEARCH(query="sofa"),
                SEARCH(query="sofa", product_types=search_pb2.PRODUCT_TYPE_USE_FILTER),
                SEARCH(query="sofa", product_types=search_pb2.PRODUCT_TYPE_USE_OFF),
                SEARCH(query="sofa", product_type_boost=0.7),
            )
        }
        assert len(digests) == 4
        same = SEARCH(query="sofa", product_types=search_pb2.PRODUCT_TYPE_USE_BOOST, product_type_boost=0.25)
        assert typed.read(SEARCH(query="sofa")).search.type_use is typed.read(same).search.type_use
