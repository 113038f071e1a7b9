"""A generation is found where it lies after others took its place, and is never taken for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundles.manifest import BundleError
from serving.catalogue.generation import Generation, previous_of
from tests.conftest import SHOP, BuildTiny


def test_a_generation_is_found_where_it_lies_after_its_successor_took_its_place(
    build_tiny: BuildTiny, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    build_tiny(mine)
    served = Generation.current(mine)
    assert served.path() == mine
    mine.rename(previous_of(mine))
    assert served.path() == previous_of(mine)  # in the midst of a swap
    build_tiny(mine, SHOP[1:])
    assert Generation.current(mine) != served
    assert served.path() == previous_of(mine)


def test_a_generation_that_is_gone_is_not_another(build_tiny: BuildTiny, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    build_tiny(mine)
    served = Generation.current(mine)
    build_tiny(mine, SHOP[1:], fingerprint="2", replace=True)
    with pytest.raises(BundleError, match=f"mine does not hold {served.version} any more, which is served; SIGHUP"):
        served.path()
