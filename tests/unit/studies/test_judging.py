"""Figures of judged sets are those worked out by hand: rankings, sides, pairs, and their buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.evaluation.buckets import Bucket
from models.lexical.bm25 import Bm25
from models.studies.text_encoder.judged_set import JudgedSet, Pool, Protocol
from models.studies.text_encoder.judging import OVERLAP, QUADRANT, judge
from models.studies.text_encoder.pair_figures import (
    AP,
    AUC,
    CLEAR,
    WITHIN,
    JudgedPairs,
    auc_and_ap,
    figures,
    figures_by_bucket,
)
from models.studies.text_encoder.scorers import best
from models.studies.text_encoder.wording import SharedWords, form_of, near_duplicates

GAINS = {"exact": 1.0, "partial": 0.5, "wrong": 0.0}
SIDES = "seen"


class Fixed:
    """Gives each query the scores that the test states."""

    def __init__(self, name: str, table: dict[str, list[float]]) -> None:
        self.name, self._table = name, table

    def scores(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self._table[query] for query in queries], np.float32)


def judged_set(pool: Pool = Pool.CATALOGUE, ndcg_at: int | None = 10) -> JudgedSet:
    """Four products, of which the last two are unseen. "red sofa" is seen, "lamp" is not; of "lamp" product 3 was not judged."""
    rows = [(0, 0, 0), (0, 1, 1), (0, 2, 0), (0, 3, 2), (1, 2, 2), (1, 1, 0)]
    query_rows, product_rows, labels = np.array(rows).T
    return JudgedSet.from_judgements(
        "set",
        Protocol(GAINS, ("exact",), pool, ndcg_at=ndcg_at, ks=(1, 2)),
        ["red sofa", "lamp"],
        ["Sofa in red", "Sofa, blue", "Couch", "Lamp"],
        (query_rows, product_rows, labels.astype(np.int32)),
        query_buckets={SIDES: Bucket(("seen", "unseen"), np.array([0, 1], np.int32))},
        product_buckets={SIDES: Bucket(("seen", "unseen"), np.array([0, 0, 1, 1], np.int32))},
    )


SCORER = Fixed("fixed", {"red sofa": [0.4, 0.9, 0.1, 0.5], "lamp": [0.1, 0.2, 0.3, 0.9]})


def test_rankings_of_the_catalogue_are_worked_out_by_hand() -> None:
    ranking = judge([SCORER], judged_set(), lambda *_: None).ranking
    # "red sofa": 1 (partial), 3, 0 (exact), 2 (exact). "lamp": 3 (not judged), 2 (wrong), 1 (exact).
    ideal = 1 + 1 / np.log2(3) + 0.5 / 2
    assert ranking.values("fixed", "ndcg@10").tolist() == pytest.approx(
        [(0.5 + 1 / 2 + 1 / np.log2(5)) / ideal, 1 / np.log2(4)]
    )
    assert ranking.values("fixed", "map").tolist() == pytest.approx([(1 / 3 + 2 / 4) / 2, 1 / 3])
    assert ranking.values("fixed", "mrr").tolist() == pytest.approx([1 / 3, 1 / 3])
    assert ranking.values("fixed", "recall@1").tolist() == [0, 0]


def test_of_the_judged_alone_what_was_not_judged_is_not_ranked() -> None:
    ranking = judge([SCORER], judged_set(Pool.JUDGED, ndcg_at=None), lambda *_: None).ranking
    assert ranking.metrics[0] == "ndcg"
    assert ranking.values("fixed", "mrr").tolist() == pytest.approx([1 / 3, 1 / 2])
    assert ranking.values("fixed", "ndcg")[1] == pytest.approx(1 / np.log2(3))


def test_a_query_whose_best_is_partly_right_counts_in_ndcg_alone() -> None:
    rows = np.array([0, 1, 1]), np.array([1, 0, 2]), np.array([1, 0, 2], np.int32)
    judged = JudgedSet.from_judgements(
        "set", judged_set(Pool.JUDGED).protocol, ["red sofa", "lamp"], judged_set().products, rows
    )
    ranking = judge([SCORER], judged, lambda *_: None).ranking
    assert ranking.values("fixed", "ndcg@10").tolist() == pytest.approx([1.0, 1 / np.log2(3)])
    assert np.isnan(ranking.values("fixed", "map")[0])
    assert ranking.buckets[OVERLAP].codes.tolist()[0] == -1


def test_relevant_products_of_the_other_side_are_taken_out_of_a_side_s_ranking() -> None:
    quadrants = judge([SCORER], judged_set(), lambda *_: None, sides=SIDES).quadrants
    assert quadrants is not None
    named = [quadrants.buckets[QUADRANT].values[code] for code in quadrants.buckets[QUADRANT].codes]
    by_case = dict(zip(named, quadrants.values("fixed", "mrr").tolist(), strict=True))
    # Seen side of "red sofa": 1, 3, 0, without the exact 2. Unseen side: 1, 3, 2, without the exact 0; the partial 1 stays. "lamp" has
    # nothing right that is unseen.
    assert by_case == pytest.approx(
        {
            "seen query, seen product": 1 / 3,
            "unseen query, seen product": 1 / 3,
            "seen query, unseen product": 1 / 3,
        }
    )
    # For NDCG the partial 1 is taken out as well: 3, 2.
    by_case = dict(zip(named, quadrants.values("fixed", "ndcg@10").tolist(), strict=True))
    assert by_case["seen query, unseen product"] == pytest.approx(1 / np.log2(3))


def test_pairs_stand_in_the_bucket_of_query_and_product() -> None:
    pairs = judge([SCORER], judged_set(), lambda *_: None, sides=SIDES).pairs
    assert pairs.scores["fixed"].tolist() == pytest.approx([0.4, 0.9, 0.1, 0.5, 0.2, 0.3])
    named = [pairs.buckets[QUADRANT].values[code] for code in pairs.buckets[QUADRANT].codes]
    assert named == [
        *["seen query, seen product"] * 2,
        *["seen query, unseen product"] * 2,
        "unseen query, seen product",
        "unseen query, unseen product",
    ]
    shared = [pairs.buckets[OVERLAP].values[code] for code in pairs.buckets[OVERLAP].codes]
    assert shared[:3] == ["all of the query's words", "some", "none of the query's words"]


def test_scorers_that_share_a_name_or_give_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        judge([SCORER, SCORER], judged_set(), lambda *_: None)
    with pytest.raises(ValueError, match=r"scores of shape \(2, 1\)"):
        judge([Fixed("one", {"red sofa": [1.0], "lamp": [1.0]})], judged_set(), lambda *_: None)


def test_the_best_are_in_order_and_of_equals_no_place_wins() -> None:
    scores = np.array([[0.5, 0.9, 0.5, 0.5], [-np.inf, 0.1, -np.inf, 0.2]], np.float32)
    first, second = best(scores, 3).tolist()
    assert first[0] == 1
    assert set(first[1:]) < {0, 2, 3}
    assert second == [3, 1, -1]
    assert sorted(best(scores, 6)[0].tolist()) == [-1, -1, 0, 1, 2, 3]
    assert best(np.zeros((1, 400)), 100).mean() == pytest.approx(200, abs=30)


def test_pooled_figures_are_those_of_scikit_learn_ties_and_all() -> None:
    rng = np.random.default_rng(0)
    is_relevant = rng.random(400) < 0.3
    scores = np.round(is_relevant * 0.3 + rng.random(400), 1)
    auc, ap = auc_and_ap(scores, is_relevant)
    assert auc == pytest.approx(roc_auc_score(is_relevant, scores))
    assert ap == pytest.approx(average_precision_score(is_relevant, scores))


def test_four_pairs_by_hand() -> None:
    auc, ap = auc_and_ap(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]))
    assert auc == 0.75  # of four comparisons only 0.8 against 0.7 is lost
    assert ap == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(auc_and_ap(np.array([0.1, 0.2]), np.array([True, True]))[0])


def pairs_of(num_queries: int, seed: int = 0) -> JudgedPairs:
    """Of two scorers "good" tells relevant pairs in the bucket "easy" and not in "hard"; "blind" nowhere."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(num_queries), 8)
    is_relevant = rng.random(len(units)) < 0.5
    hard = (units % 2).astype(np.int32)
    noise = rng.random((2, len(units)))
    scores = {"blind": noise[0], "good": noise[1] + (1 - hard) * is_relevant}
    return JudgedPairs(
        scores, is_relevant, np.zeros(len(units), np.bool_), units, {"kind": Bucket(("easy", "hard", "absent"), hard)}
    )


def test_a_difference_is_found_where_it_was_planted_and_only_there() -> None:
    by_value = figures_by_bucket(pairs_of(120), ["kind"], "blind")["kind"]
    assert set(by_value) == {"easy", "hard"}
    assert by_value["easy"].by_scorer[AUC]["good"].value > 0.95
    assert by_value["easy"].differences[AUC]["good"].low > 0.3
    assert by_value["easy"].differences[AP]["good"].excludes_zero
    assert not by_value["hard"].differences[AUC]["good"].excludes_zero
    assert by_value["easy"].num_queries == 60


def test_intervals_draw_queries_and_repeat_with_the_seed() -> None:
    pairs = pairs_of(40)
    rows = np.arange(len(pairs.units))
    once, again = (figures(pairs, rows, "blind", num_resamples=50) for _ in range(2))
    assert once == again
    single = dataclasses.replace(pairs, units=np.zeros_like(pairs.units))
    assert np.isnan(figures(single, rows, "blind", num_resamples=50).by_scorer[AUC]["good"].low)


def test_an_encoder_can_be_right_within_queries_and_wrong_between_them() -> None:
    """Two queries of two pairs each, all scores of the second above those of the first."""
    scores = {"one": np.array([0.2, 0.1, 0.9, 0.8]), "other": np.array([0.2, 0.1, 0.2, 0.1])}
    is_relevant = np.array([True, False, True, False])
    pairs = JudgedPairs(scores, is_relevant, np.zeros(4, np.bool_), np.array([0, 0, 1, 1]), {})
    found = figures(pairs, np.arange(4), "one", num_resamples=10)
    assert found.by_scorer[WITHIN]["one"].value == found.by_scorer[WITHIN]["other"].value == 1.0
    assert found.by_scorer[AUC]["one"].value == 0.75
    assert found.differences[AUC]["other"].value == 0.25


def test_what_is_partly_relevant_is_left_out_against_the_irrelevant() -> None:
    scores = {"one": np.array([0.5, 0.9, 0.1, 0.6])}
    is_relevant, is_partial = np.array([True, False, False, False]), np.array([False, True, False, False])
    pairs = JudgedPairs(scores, is_relevant, is_partial, np.arange(4), {})
    found = figures(pairs, np.arange(4), "one", num_resamples=10)
    assert found.by_scorer[AUC]["one"].value == pytest.approx(1 / 3)
    assert found.by_scorer[CLEAR]["one"].value == 0.5
    assert np.isnan(found.by_scorer[WITHIN]["one"].value)  # no query has pairs of both kinds


def test_too_few_pairs_make_no_figure() -> None:
    assert figures_by_bucket(pairs_of(10), ["kind"], "blind")["kind"] == {}


def test_queries_are_the_same_but_for_case_order_plural_empty_words_and_a_letter() -> None:
    assert form_of("Sofas for the Garden") == form_of("garden sofa")
    known = ["garden sofas", "oak table", "mat"]
    asked = ["Sofa garden", "oak tabel", "oak tables in oak", "gardn sofa", "oaktable", "map", "oak chair"]
    assert near_duplicates(asked, known).tolist() == [True, True, True, True, True, False, False]
    assert not near_duplicates(["oak"], []).any()


def test_shared_words_are_counted_as_stems() -> None:
    shares = SharedWords(["running shoes for men", ""], ["Men's shoe, runs well", "Hat"])
    assert shares.shares(np.array([0, 0, 1]), np.array([0, 1, 0])).tolist() == [1.0, 0.0, 0.0]


def test_bm25_scores_what_shares_words_above_what_does_not() -> None:
    scores = Bm25(["red velvet sofa", "oak table", "sofas"]).scores(["sofa in velvet", "unheard of"])
    assert scores.shape == (2, 3)
    assert scores[0].argmax() == 0
    assert scores[0, 1] == 0 < scores[0, 2]
    assert not scores[1].any()
