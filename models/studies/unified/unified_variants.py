"""Ablations of the unified model: each leaves one part out and is trained from scratch.

Ablations and their reference are trained half as long as the model itself: with fourteen of them, an evaluation then takes half an hour
instead of an hour. Only the model without any history, which is a result of its own, is trained in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.errors import InputError
from models.unified.recipe import UnifiedRecipe

HALF = "unified, half the training"
NO_HISTORY_EVER = "trained without history"

_PRODUCT_BLOCKS = ("graph", "ngrams", "ids", "scalars", "locale")


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe that differs from its reference in one thing."""

    name: str
    group: str  # the table that it belongs to; "": none
    recipe: UnifiedRecipe


def variants_of(full: UnifiedRecipe, num_locales: int) -> list[Variant]:
    """Returns the ablations: without each block of the product tower and of the history, with other negatives, and without any history.

    Parts that the full model lacks have no ablation, nor has the locale if there is only one.
    """
    products, history, negatives = full.products, full.history, full.negatives
    half = replace(full, epochs=full.epochs / 2)
    left_out: Any = False  # of any block: mypy takes the first field's type for all
    variants = [Variant(HALF, "", half)]
    variants += [
        Variant(f"no {block}", "Product blocks", replace(half, products=replace(products, **{block: left_out})))
        for block in _PRODUCT_BLOCKS
        if getattr(products, block) and (block != "locale" or num_locales > 1)
    ]
    if products.text != "none":
        variants.insert(1, Variant("no text", "Product blocks", replace(half, products=replace(products, text="none"))))
    blocks = [block for block, size in history.sizes().items() if size]
    variants += [
        Variant(f"no {block} in the history", "History", replace(half, history=replace(history, **{block: 0})))
        for block in blocks
        if len(blocks) > 1
    ]
    if blocks:
        nothing = replace(history, **dict.fromkeys(blocks, 0))
        variants.append(Variant(NO_HISTORY_EVER, "", replace(full, history=nothing)))
    mixes = {
        "uniform negatives only": replace(negatives, in_batch_weight=0.0, dynamic_weight=0.0),
        "in-batch negatives only": replace(
            negatives, uniform_weight=0.0, dynamic_weight=0.0, warm_up_share=0.0, full_share=0.0
        ),
        "with dynamic hard negatives": replace(negatives, dynamic_weight=0.5),
        "without dynamic hard negatives": replace(negatives, dynamic_weight=0.0),
        "all negatives from the start": replace(negatives, warm_up_share=0.0, full_share=0.0),
    }
    return variants + [
        Variant(name, "Negatives and their schedule", replace(half, negatives=mix))
        for name, mix in mixes.items()
        if mix != negatives and (name != "with dynamic hard negatives" or not negatives.dynamic_weight)
    ]


def choose_variants(variants: Sequence[Variant], names: Sequence[str] | None) -> list[Variant]:
    """Returns the variants of these names with their references; None: all. Raises ValueError for an unknown name."""
    available = [variant.name for variant in variants]
    unknown = [name for name in names or () if name not in available]
    if unknown:
        raise InputError(f"variants {', '.join(unknown)} are not among {', '.join(available)}")
    if names is None:
        return list(variants)
    named = [variant for variant in variants if variant.name in names]
    references = [variant for variant in variants if variant.name == HALF and any(other.group for other in named)]
    return references + [variant for variant in named if variant not in references]
