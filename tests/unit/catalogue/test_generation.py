"""A generation is found where it lies after others took its place, and is never taken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from serving.catalogue.generation import Generation, next_of, previous_of
from tests.conftest import SHOP, BuildTiny


def generation(folder: Path) -> Generation:
    return Generation(folder, Bundle(folder).manifest.version)


@pytest.mark.parametrize("place", [next_of, previous_of])
def test_a_generation_is_found_where_it_lies_when_its_successor_took_its_place(
    build_tiny: BuildTiny, tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    mine = tmp_path / "mine"
    build_tiny(mine)
    served = generation(mine)
    mine.rename(place(mine))
    build_tiny(mine, SHOP[1:])
    assert generation(mine) != served
    assert served.path().samefile(place(mine))


def test_what_is_read_later_is_of_the_same_generation(build_tiny: BuildTiny, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    build_tiny(mine)
    served = generation(mine)
    opened = Bundle(served.path())
    mine.rename(next_of(mine))
    build_tiny(mine, SHOP[1:])
    assert len(opened.products()) == len(SHOP)
    next_of(mine).rename(previous_of(mine))
    assert opened.products().id(0) == SHOP[0].id
    assert served.path() == opened.folder  # all parts of a process share what was opened


def test_a_generation_that_is_gone_is_not_another(build_tiny: BuildTiny, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    build_tiny(mine)
    served = generation(mine)
    build_tiny(mine, SHOP[1:], fingerprint="2", replace=True)
    with pytest.raises(BundleError, match=f"mine does not hold {served.version} any more, which is served; SIGHUP"):
        served.path()
