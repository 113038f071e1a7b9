"""LightGBM's LambdaMART on the same features: the usual choice for learning to rank. Needs lightgbm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.ranking.fit_ranker import RankerRows

GRADED_TREES, PURCHASE_TREES = "LambdaMART, graded", "LambdaMART, purchases"

# Small trees for a few thousand pages. Early stopping on the held-out pages sets their number.
SETTINGS: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 1.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}
_MAX_TREES, _PATIENCE = 500, 40


def boosted_scores(
    rows: RankerRows, grades: npt.NDArray[np.integer], holdout_share: float, test_features: Floats, seed: int
) -> Floats:
    """Trains on `grades` (rows,) from 0 to 3, with early stopping on the latest pages, and returns scores (test rows,)."""
    import lightgbm

    cut = rows.num_pages - max(1, int(holdout_share * rows.num_pages))
    split = int(np.searchsorted(rows.page, cut))
    lengths = np.bincount(rows.page, minlength=rows.num_pages)
    learned = lightgbm.Dataset(rows.features[:split], grades[:split], group=lengths[:cut], free_raw_data=False)
    held = lightgbm.Dataset(rows.features[split:], grades[split:], group=lengths[cut:], reference=learned)
    model = lightgbm.train(
        {**SETTINGS, "seed": seed},
        learned,
        _MAX_TREES,
        valid_sets=[held],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return np.asarray(model.predict(test_features, num_iteration=model.best_iteration), np.float32)
