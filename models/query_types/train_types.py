"""Trains a query classifier. Needs the extra `aisle[train]`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from models.arrays import Bools, Progress, silent
from models.query_types.certainty import measure_certainty
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.fit_net import Fitted, fit_net
from models.query_types.recipe import LocaleInput, TypesRecipe, Variant
from models.query_types.tokens import LocaleRows, QueryHashing, language_of
from models.query_types.type_files import Net
from models.query_types.type_model import TypeModel
from models.query_types.type_net import NetSpec, TypeNet
from models.text_encoder.hugging_face import base_name

_LEAST_BITS = 10
_ROWS_PER_EXAMPLE = (
    24  # table rows for each example in a locale's own network (NU): words, pairs and n-grams of a query
)


def train_types(
    examples: TypeExamples, recipe: TypesRecipe, *, seed: int = 0, progress: Progress = silent, device: str = "cpu"
) -> TypeModel:
    """Trains a classifier; the same examples, recipe and seed give the same weights on the same machine.

    A locale without examples is not in the model. A share of the rows of each locale is held out for early stopping and calibration.
    `device`, "cpu" or "cuda", is for a recipe with an encoder; n-gram networks train on the CPU. Raises ExamplesError if there is
    nothing to learn from, DegenerateLoss if the loss is not a number, EncoderError for an unusable encoder.
    """
    if len(examples) < 2 or len(examples.types) < 2:
        raise ExamplesError(
            f"{len(examples)} examples of {len(examples.types)} types; two of each are the least to learn from"
        )
    held = holdout_rows(examples, recipe.holdout_share, seed)
    learned, holdout = examples.take(~held), examples.take(held)
    counts = learned.rows_by_locale()
    locales = tuple(name for name, count in zip(examples.locales, counts.tolist(), strict=True) if count)
    nets: list[Net] = []
    if recipe.encoder is not None:
        from models.query_types.train_encoder import fit_encoder_net

        stage = partial(progress, "train types")
        nets.append(fit_encoder_net(learned, holdout, locales, recipe, seed, stage, device))
        recipe = replace(recipe, encoder=replace(recipe.encoder, base=base_name(recipe.encoder.base)))
    else:
        nets += _ngram_nets(learned, holdout, locales, recipe, seed, progress)
    model = TypeModel(examples.types, locales, recipe, nets, {})
    progress("calibrate", 0, None)
    return TypeModel(examples.types, locales, recipe, nets, measure_certainty(model, learned, holdout))


def _ngram_nets(
    learned: TypeExamples,
    holdout: TypeExamples,
    locales: tuple[str, ...],
    recipe: TypesRecipe,
    seed: int,
    progress: Progress,
) -> list[TypeNet]:
    if recipe.variant == Variant.NU:
        parts = [(locale_spec(learned.of_locale(name), recipe), name) for name in locales]
    else:
        parts = [(shared_spec(learned, locales, recipe), "")]
    nets = []
    for at, (spec, name) in enumerate(parts):
        own, own_held = (part.of_locale(name) if name else part for part in (learned, holdout))
        stage = f"train types {name}".strip()
        fitted = fit_net(spec, own, own_held, recipe, seed + at, partial(progress, stage))
        nets.append(rounded_net(spec, fitted))
    return nets


def holdout_rows(examples: TypeExamples, share: float, seed: int) -> Bools:
    """Returns (rows,) which rows are held out: a share of each locale, rounded down."""
    random = np.random.default_rng([seed, 1])
    held = np.zeros(len(examples), np.bool_)
    for locale in range(len(examples.locales)):
        rows = np.flatnonzero(examples.locale == locale)
        held[random.permutation(rows)[: int(share * len(rows))]] = True
    return held


def shared_spec(examples: TypeExamples, locales: tuple[str, ...], recipe: TypesRecipe) -> NetSpec:
    """Returns the settings of a network for all `locales`, which the variant U_AG ignores."""
    uses_locale = recipe.variant == Variant.U_AW
    own = 2**recipe.hashing.bits
    block = LocaleRows(own, recipe.hashing.bits)
    has_locale_words = uses_locale and recipe.locale_input == LocaleInput.PREFIX
    return NetSpec(
        hashing=recipe.hashing,
        locale_input=recipe.locale_input if uses_locale else None,
        locales=locales if uses_locale else (),
        languages=shared_languages(locales) if has_locale_words else (),
        rows=(block,) * len(locales) if uses_locale else (),
        num_rows=2 * own if has_locale_words else own,
        num_types=len(examples.types),
        dim=recipe.dim,
        hidden=recipe.hidden,
        locale_dim=recipe.locale_dim,
    )


def shared_languages(locales: Sequence[str]) -> tuple[str, ...]:
    """Returns the languages of more than one locale; the words of any other language are those of its one locale."""
    counts = Counter(language_of(name) for name in locales)
    return tuple(sorted(name for name, number in counts.items() if number > 1))


def locale_spec(examples: TypeExamples, recipe: TypesRecipe) -> NetSpec:
    """Returns the settings of one locale's own network, with a table as large as its examples can fill."""
    bits = int(np.clip(np.ceil(np.log2(_ROWS_PER_EXAMPLE * len(examples))), _LEAST_BITS, recipe.hashing.bits))
    return NetSpec(
        hashing=QueryHashing(bits, recipe.hashing.ngrams, recipe.hashing.pairs),
        locale_input=None,
        locales=(),
        languages=(),
        rows=(),
        num_rows=2**bits,
        num_types=len(examples.types),
        dim=recipe.dim,
        hidden=recipe.hidden,
        locale_dim=recipe.locale_dim,
    )


def rounded_net(spec: NetSpec, fitted: Fitted) -> TypeNet:
    """Returns the network rounded to float16, as it will be saved, so that a saved model gives the same scores."""
    return TypeNet(spec, {name: value.astype(np.float16) for name, value in fitted.weights.items()})
