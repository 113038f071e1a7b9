"""An id set contains what was added, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.products.id_set import IdSet, id_digests


@given(batches=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=20), max_size=12), other=st.integers(0, 2**64 - 1))
def test_a_set_contains_what_any_batch_added(batches: list[list[int]], other: int) -> None:
    ids, added = IdSet(), set[int]()
    for batch in batches:
        ids.add(np.array(batch, np.uint64))
        added.update(batch)
    queried = np.array([*added, other], np.uint64)
    assert ids.contains(queried).tolist() == [number in added for number in queried.tolist()]


def test_digests_differ_between_ids_and_not_between_calls() -> None:
    digests = id_digests(["a", "b", "", "é", "a"])
    assert digests[0] == digests[4]
    assert len(set(digests.tolist())) == 4
    assert np.array_equal(id_digests(["a", "b", "", "é", "a"]), digests)
    assert len(id_digests([])) == 0


def test_an_id_with_half_a_character_has_a_digest() -> None:
    assert len(id_digests(["\ud800x", None])) == 2
