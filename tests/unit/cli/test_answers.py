"""What a terminal shows of a response."""

from __future__ import annotations

import pytest

from aisle.v1 import product_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from serving.cli.answers import print_answer, print_comparison, print_query_types, print_ranked
from serving.cli.terminal import out


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 220)


def hit(rank: int, title: str, **explanation: object) -> search_pb2.Hit:
    product = product_pb2.Product(id=title, title=title, brand="Nord", price_minor=49_90, in_stock=rank == 1)
    return search_pb2.Hit(
        product_id=title, score=1 / rank, product=product, explanation=search_pb2.Explanation(rank=rank, **explanation)
    )


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("wide")
def test_a_hit_shows_price_stock_and_why_it_was_retrieved(capsys: pytest.CaptureFixture[str]) -> None:
    answer = search_pb2.SearchResponse(
        hits=[
            hit(1, "Lamp [red]", similarity=0.5, matched_identifiers=["hx1"], boosts={"new": 0.1}),
            hit(2, "Rug", similarity=0.4, type_boost=0.05),
        ],
        corrected_query="lamp",
        warnings=["the locale is not served"],
        degradations=[search_pb2.Degradation(part="teacher", reason="too late")],
        total=1_000,
        total_meaning=search_pb2.TOTAL_MEANING_AT_LEAST,
    )
    print_answer("lmap", answer, 3.0, digits=2)
    shown = words(capsys)
    assert "1 1.000 Lamp [red] Nord 49.90 holds hx1; similar 0.50, new +0.10" in shown
    assert "2 0.500 Rug (out of stock) Nord 49.90 similar 0.40, type +0.05" in shown
    assert "searched for 'lamp' (--verbatim to search as typed)" in shown
    assert "the locale is not served" in shown
    assert "teacher: too late" in shown
    assert "2 hits in 3.0 ms, 1,000+ in all" in shown
    assert "click %" not in shown


@pytest.mark.usefixtures("wide")
def test_several_readings_are_told_and_so_is_which_found_a_hit(capsys: pytest.CaptureFixture[str]) -> None:
    answer = search_pb2.SearchResponse(
        hits=[hit(1, "Kettle", similarity=0.5, query="nikora")],
        searched_queries=["nikora", "nokira"],
        alternative_queries=["nikora", "nokira", "kokora"],
    )
    print_answer("nokora", answer, 3.0, digits=2)
    shown = words(capsys)
    assert "for 'nikora': similar 0.50" in shown
    assert "searched for 'nikora' and 'nokira', which take turns (--verbatim to search as typed)" in shown
    assert "did you mean 'kokora'?" in shown


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (search_pb2.FACET_SCOPE_MATCHING, "sorted: all 1,200 products that match the query"),
        (search_pb2.FACET_SCOPE_BEST, "sorted: the 1,200 that fit the query best; none was found by all its words"),
    ],
)
def test_a_sorted_answer_says_what_was_sorted(
    capsys: pytest.CaptureFixture[str], scope: search_pb2.FacetScope, told: str
) -> None:
    total_meaning = search_pb2.TOTAL_MEANING_EXACT
    answer = search_pb2.SearchResponse(
        hits=[hit(1, "Rug")], sorted_over=scope, total=1_200, total_meaning=total_meaning
    )
    print_answer("wool rug", answer, 3.0, digits=2)
    assert told in words(capsys)


@pytest.mark.usefixtures("wide")
def test_facets_say_what_they_were_counted_over(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"red": 1_200, "blue": 3}
    values = [search_pb2.FacetValue(value=value, count=count) for value, count in counts.items()]
    ranges = [search_pb2.FacetValue(range=search_pb2.NumberRange(max=5), count=2)]
    answer = search_pb2.SearchResponse(
        facets=[
            search_pb2.Facet(name="colour", values=values, counted_over=search_pb2.FACET_SCOPE_ALL, num_products=2_000),
            search_pb2.Facet(
                name="width", unit="cm", values=ranges, counted_over=search_pb2.FACET_SCOPE_BEST, num_products=9
            ),
        ],
        total=7,
        total_meaning=search_pb2.TOTAL_MEANING_EXACT,
    )
    print_answer("", answer, 3.0, digits=2)
    shown = words(capsys)
    assert "colour of all 2,000: red 1,200, blue 3" in shown
    assert "width of the best 9: ..5 cm 2" in shown
    assert "0 hits in 3.0 ms, 7 in all" in shown


@pytest.mark.usefixtures("wide")
def test_a_ranked_hit_shows_its_probabilities_and_strongest_features(capsys: pytest.CaptureFixture[str]) -> None:
    ranked = hit(1, "Lamp", similarity=0.5, retrieval_rank=7)
    ranked.chances.click, ranked.chances.cart, ranked.chances.purchase, ranked.blend = 0.1, 0.02, 0.003, 0.25
    ranked.explanation.rank_factors.add(feature="popularity", value=0.9, contribution=0.125)
    answer = search_pb2.SearchResponse(hits=[ranked], ranked_by=search_pb2.RANK_MODEL_STUDENT, ranked_depth=200)
    print_answer("lamp", answer, 3.0, digits=2, explain=True)
    shown = words(capsys)
    assert "1 7 10.0 2.00 0.30 0.250 Lamp Nord 49.90 similar 0.50; popularity 0.90 (+0.125)" in shown
    assert "the top 200 candidates, ranked by the student" in shown


def test_a_narrow_terminal_leaves_columns_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 80)
    answer = search_pb2.SearchResponse(hits=[hit(1, "Lamp")], ranked_by=search_pb2.RANK_MODEL_STUDENT)
    print_answer("lamp", answer, 3.0, digits=2)
    head = capsys.readouterr().out.splitlines()[1].split()
    assert head == ["was", "buy", "%", "product", "brand", "price"]


@pytest.mark.usefixtures("wide")
def test_given_candidates_show_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    product = ranking_pb2.RankedProduct(product_id="new-1", rank=1, unknown_features=["new", "age"])
    product.chances.click = 0.5
    answer = ranking_pb2.RankResponse(
        products=[product], ranked_by=search_pb2.RANK_MODEL_TEACHER, unknown_product_ids=["A-9"]
    )
    print_ranked("lamp", answer)
    shown = words(capsys)
    assert "1 50.0 0.00 0.00 0.000 new-1" in shown
    assert "ranked by the teacher" in shown
    assert "the catalogue has no A-9" in shown
    assert "unknown outside the catalogue, so average: age, new" in shown


@pytest.mark.usefixtures("wide")
def test_predictions_stand_next_to_query_and_locale(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [query_pb2.TypeProbability(type=name, probability=p) for name, p in (("Trousers", 0.8), ("Underwear", 0.1))]
    print_query_types(
        [("pants", "en-US"), ("zzz", "xx")],
        [query_pb2.QueryTypes(types=kinds, locale_used="en-US"), query_pb2.QueryTypes(abstained=True)],
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["query", "locale", "type", "probability"],
        ["pants", "en-US", "Trousers", "0.80"],
        ["Underwear", "0.10"],
        ["zzz", "xx", "not", "sure,", "read", "without", "a", "locale"],
    ]


@pytest.mark.usefixtures("wide")
def test_a_comparison_shows_where_a_hit_came_from_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    click = search_pb2.MovedBy(kind=shopper_pb2.EVENT_KIND_CLICK, title="Oak desk", gain=0.05)
    plain = search_pb2.SearchResponse(hits=[hit(1, "Lamp"), hit(2, "Rug")])
    personal = search_pb2.SearchResponse(
        hits=[hit(1, "Rug", moved_by=[click]), hit(2, "Desk")],
        personalisation=search_pb2.Personalisation(
            source=search_pb2.PERSONALISATION_SOURCE_STORED, events=3, strength=1
        ),
    )
    print_comparison("lamp", "ann", plain, personal)
    shown = words(capsys)
    assert "'lamp' for ann (stored history, 3 events)" in shown
    assert "1 Lamp Rug 2 click of Oak desk (+0.050)" in shown
    assert "2 Rug Desk -" in shown
