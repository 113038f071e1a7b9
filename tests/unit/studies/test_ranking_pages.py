"""Pages are measured as by hand and as by the libraries; ties, labels and places are treated as documented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.evaluation.metrics import places_by_score
from models.query_types.calibration import expected_calibration_error
from models.ranking.feature_names import FEATURES
from models.ranking.fit_ranker import RankerRows
from models.ranking.recipe import RankerRecipe
from models.studies.ranking.learned import ESMM, IMPERSONAL, ScoreCache, single_name, variant_scores, variants_of
from models.studies.ranking.page_metrics import (
    PAGE_METRICS,
    WHOLE_PAGE,
    RankerScores,
    area_of,
    calibration_parts,
    graded,
    log_losses,
    page_values,
    take_pages,
)
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.position_bias import redrawn, sorted_pages
from models.studies.ranking.sparse import thinned


def rows_of(labels: list[list[int]], lengths: list[int]) -> RankerRows:
    page = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return RankerRows(np.zeros((len(page), 2), np.float32), np.array(labels, np.float32), page, position)


def some_rows(num_pages: int = 60, length: int = 12, seed: int = 0) -> RankerRows:
    random = np.random.default_rng(seed)
    labels = np.cumprod(random.random((num_pages * length, 3)) < (0.3, 0.5, 0.6), axis=1)
    return rows_of(labels.tolist(), [length] * num_pages)


NOTHING, CLICK, CART, PURCHASE = [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]


def test_two_pages_computed_by_hand() -> None:
    rows = rows_of([NOTHING, PURCHASE, CLICK, NOTHING, NOTHING, NOTHING], [4, 2])
    scores = np.array([0.9, 0.8, 0.1, 0.5, 1.0, 0.0])  # the first page in the order 0, 1, 3, 2
    clicks = page_values(rows, scores, rows.labels[:, 0])
    best = 1 + 1 / np.log2(3)
    assert clicks[0] == pytest.approx([(1 / np.log2(3) + 1 / np.log2(5)) / best, 1 / 2, (1 / 2 + 2 / 4) / 2])
    assert np.isnan(clicks[1]).all()  # nobody did anything there
    assert page_values(rows, scores, rows.labels[:, 2])[0] == pytest.approx([1 / np.log2(3), 1 / 2, 1 / 2])
    assert graded(rows.labels).tolist() == [0, 3, 1, 0, 0, 0]
    whole = page_values(rows, scores, graded(rows.labels), WHOLE_PAGE)[0, 0]
    assert whole == pytest.approx((3 / np.log2(3) + 1 / np.log2(5)) / (3 + 1 / np.log2(3)))


def test_the_figures_are_those_of_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    rows = some_rows()
    scores = np.random.default_rng(1).permutation(len(rows.page)).astype(float)
    ours = page_values(rows, scores, graded(rows.labels))
    offsets = np.searchsorted(rows.page, np.arange(rows.num_pages + 1))
    grades = {
        str(p): {str(r): int(rows.labels[r].sum()) for r in range(offsets[p], offsets[p + 1])}
        for p in range(rows.num_pages)
    }
    run = {str(p): {str(r): float(scores[r]) for r in range(offsets[p], offsets[p + 1])} for p in range(rows.num_pages)}
    theirs = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut_10", "recip_rank", "map"}).evaluate(run)
    known = np.flatnonzero(np.isfinite(ours[:, 0]))
    assert len(known) > 40
    wanted = [[theirs[str(page)][name] for name in ("ndcg_cut_10", "recip_rank", "map")] for page in known.tolist()]
    assert ours[known] == pytest.approx(np.array(wanted))
    assert len(PAGE_METRICS) == 3


def test_area_and_loss_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    random = np.random.default_rng(2)
    labels = (random.random(500) < 0.2).astype(np.float32)
    chances = np.round(np.clip(random.beta(1, 4, 500) + 0.1 * labels, 0.01, 0.99), 2)  # many are equal
    times = random.integers(0, 4, 500).astype(float)
    area = area_of(chances, labels)
    assert area(np.ones(500)) == pytest.approx(roc_auc_score(labels, chances))
    assert area(times) == pytest.approx(roc_auc_score(labels, chances, sample_weight=times))
    assert log_losses(chances, labels).mean() == pytest.approx(log_loss(labels, chances))
    assert np.isnan(area_of(chances, np.zeros(500))(np.ones(500)))


def test_the_calibration_error_of_pages_is_that_of_all_rows() -> None:
    rows = some_rows()
    chances = np.random.default_rng(3).random(len(rows.page)).astype(np.float32)
    parts = calibration_parts(chances, rows.labels[:, 0], rows.page, rows.num_pages)
    error = np.abs(parts.sum(axis=0)).sum() / len(rows.page)
    assert error == pytest.approx(expected_calibration_error(chances, rows.labels[:, 0] > 0), abs=1e-6)


def test_an_order_without_an_opinion_gains_nothing_from_how_a_page_is_kept() -> None:
    first = rows_of([*([PURCHASE, *[NOTHING] * 11] * 400)], [12] * 400)
    places = places_by_score(np.zeros(len(first.page)), first.page)[first.labels[:, 0] > 0]
    assert 4.5 < places.mean() < 6.5
    assert sorted(places_by_score(np.zeros(len(first.page)), first.page)[:12].tolist()) == list(range(12))


def test_an_answer_may_know_one_task_alone() -> None:
    chances = np.array([[0.5, np.nan, 0.1], [0.2, np.nan, 0.2]], np.float32)
    answer = RankerScores.from_probabilities(chances)
    assert (answer.has_task("click"), answer.has_task("cart")) == (True, False)
    assert answer.calibrated == ("click", "purchase")
    assert answer.overall == pytest.approx([0.5 + 16 * 0.1, 0.2 + 16 * 0.2])
    single = RankerScores.from_score(chances[:, 0], calibrated_task="click")
    assert single.has_task("purchase")
    assert single.calibrated == ("click",)


def test_the_oracle_has_all_of_its_own_and_others_have_less() -> None:
    rows = some_rows(200)
    truth = rows.labels + 0.1
    noise = np.random.default_rng(4).normal(size=truth.shape)
    rankers = {
        "oracle": RankerScores.from_probabilities(truth),
        "half blind": RankerScores.from_probabilities(truth + noise + 9),
    }
    ranked = Ranked(rows, np.arange(200) // 2, rankers)
    assert ranked.share("oracle", "oracle", GRADED).value == pytest.approx(1)
    assert ranked.mean("oracle", GRADED).value == pytest.approx(1)
    share = ranked.share("half blind", "oracle", GRADED)
    assert 0.5 < share.low < share.value < share.high < 0.98
    assert ranked.difference("oracle", "half blind", "purchase").low > 0
    some = np.arange(0, 200, 3)
    assert ranked.on_pages(some).ndcg("half blind", "click") == pytest.approx(
        ranked.ndcg("half blind", "click")[some], nan_ok=True
    )


def test_pages_are_taken_with_their_rows() -> None:
    rows = rows_of([CLICK, CART, NOTHING, PURCHASE, CLICK], [2, 1, 2])
    taken, at = take_pages(rows, np.array([0, 2]))
    assert at.tolist() == [0, 1, 3, 4]
    assert taken.page.tolist() == [0, 0, 1, 1]
    assert taken.labels[:, 2].tolist() == [0, 0, 1, 0]


def test_thinned_purchases_stay_carts() -> None:
    rows = some_rows(300)
    few = thinned(rows, 0.1, 0)
    assert few.labels[:, 2].sum() == round(0.1 * rows.labels[:, 2].sum())
    assert np.array_equal(few.labels[:, :2], rows.labels[:, :2])
    assert (few.labels[:, 2] <= rows.labels[:, 2]).all()
    assert thinned(rows, 1e-6, 0).labels[:, 2].sum() == 1
    assert not np.array_equal(thinned(rows, 0.1, 1).labels, few.labels)


def test_redrawn_clicks_fall_with_the_place_and_stay_nested() -> None:
    rows = some_rows(4000)
    chances = np.tile([0.4, 0.2, 0.1], (len(rows.page), 1))
    drawn = redrawn(rows, chances, 1.0, 0).labels
    assert (np.diff(drawn, axis=1) <= 0).all()
    for place in (1, 2, 8):
        at = rows.position == place
        assert drawn[at].mean(axis=0) == pytest.approx(chances[0] / place, rel=0.25)
    assert redrawn(rows, chances, 0.0, 0).labels[rows.position == 12].mean(axis=0) == pytest.approx(
        chances[0], rel=0.15
    )
    nowhere = RankerRows(rows.features[:1], rows.labels[:1], rows.page[:1], np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="needs its place"):
        redrawn(nowhere, chances[:1], 1.0, 0)


def test_sorted_pages_put_high_scores_first() -> None:
    rows = some_rows(500)
    score = np.random.default_rng(5).random(len(rows.page))
    position = sorted_pages(rows, score, 0).position
    assert sorted(position[:12].tolist()) == list(range(1, 13))
    assert np.corrcoef(position, score)[0, 1] < -0.7


def test_pages_of_which_a_ranker_says_nothing_are_left_out() -> None:
    rows = some_rows(40)
    scores = np.random.default_rng(6).random(len(rows.page))
    some = np.where(rows.page < 10, scores, np.nan)
    ranked = Ranked(
        rows, np.arange(40), {"all": RankerScores.from_score(scores), "some": RankerScores.from_score(some)}
    )
    assert np.isnan(ranked.ndcg("some", "click")[10:]).all()
    assert ranked.ndcg("some", "click")[:10] == pytest.approx(ranked.ndcg("all", "click")[:10], nan_ok=True)
    assert ranked.difference("all", "some", "click").value == pytest.approx(0)
    assert ranked.task_table(["some"], "click").rows[0][1][3].value == pytest.approx(  # type: ignore[union-attr]
        area_of(scores[rows.page < 10], rows.labels[rows.page < 10, 0])(np.ones(120))
    )


def test_a_task_that_was_not_learned_caps_none_that_was(tmp_path: Path) -> None:
    rows = some_rows(80)
    random = np.random.default_rng(7)
    features = random.normal(size=(len(rows.page), len(FEATURES))).astype(np.float32)
    features[:, 0] += 3 * rows.labels[:, 2]
    told = RankerRows(features, rows.labels, rows.page, rows.position)
    recipe = RankerRecipe("tiny", expert_dim=8, tower_dim=4, epochs=20, batch_pages=8, learning_rate=1e-2)
    cache = ScoreCache(tmp_path, lambda *_: None)
    by_name = {variant.name: variant for variant in variants_of(recipe)}
    answer = variant_scores(cache, by_name[single_name("purchase")], told, features, 0)
    assert len(np.unique(answer.for_task("click"))) > 0.9 * len(features)  # its one chance, whatever is asked
    assert answer.calibrated == ("purchase",)
    assert area_of(answer.for_task("purchase"), rows.labels[:, 2])(np.ones(len(features))) > 0.9
    assert not variant_scores(cache, by_name[ESMM], told, features, 0).has_task("cart")
    hidden = variant_scores(cache, by_name[IMPERSONAL], told, features, 0).for_task("click")
    changed = features.copy()
    changed[:, FEATURES.index("brand_affinity")] += 1
    assert np.array_equal(hidden, variant_scores(cache, by_name[IMPERSONAL], told, changed, 0).for_task("click"))
