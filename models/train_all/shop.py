"""What is trained from: a shop, and what `look` sees in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.arrays import Progress
from models.bundles.build import Recipe
from models.bundles.source import Source
from models.needs.look_at_shop import SeenShop, look_at_shop
from models.needs.matrix import REFIT, STAGES
from models.needs.plan import Plan, plan_training
from models.needs.shop_facts import Windows
from models.train_all.recipe import HELD_OUT, LoopRecipe


@dataclass(frozen=True, slots=True)
class Shop:
    """The training data. `logs` are what `open_log` opens; every stage is trained on all. Events without a locale have the first of
    `bundle`."""

    source: Source
    logs: tuple[Path, ...]
    bundle: Recipe
    simulated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a shop has, and what becomes of the stages."""

    seen: SeenShop
    plan: Plan


def look(shop: Shop, recipe: LoopRecipe, progress: Progress, *, refit: bool = True) -> Look:
    """Looks at catalogue and log, and trains nothing; without `refit` the measured bundle is to be shipped.

    Raises CatalogueError and LogError for what cannot be read.
    """
    seen = look_at_shop(
        shop.source.products,
        shop.logs,
        lambda log: Windows.by_share(log, recipe.unified.train_share, HELD_OUT),
        locale=shop.bundle.locales[0],
        has_text=bool(shop.source.text_attributes),
        progress=progress,
    )
    return Look(seen=seen, plan=plan_training(seen.facts, [stage for stage in STAGES if refit or stage != REFIT]))
