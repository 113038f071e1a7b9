"""A spec is stored as JSON and refuses values that no index has."""

from __future__ import annotations

import json

import pytest

from models.index.spec import COLUMN_STEP, IndexSpec, num_columns


def test_a_spec_survives_json_and_a_wrong_kind_or_margin_is_refused() -> None:
    spec = IndexSpec("ivf", num_lists=1024, margin=0.275, k_factor=8.0)
    assert IndexSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(ValueError, match="hnsw"):
        IndexSpec.from_json({**spec.to_json(), "kind": "hnsw"})
    with pytest.raises(ValueError, match=r"margin is 0\.0"):
        IndexSpec.from_json({**spec.to_json(), "margin": 0.0})


def test_columns_are_padded_only_where_there_are_features() -> None:
    assert num_columns(260, 0) == 260
    assert [num_columns(256, features) for features in (1, 16, 17)] == [272, 272, 288]
    assert num_columns(250, 3) % COLUMN_STEP == 0
