"""Teaches a trained model one more locale without changing a bit of its predictions in the other locales.

Only the weights of the new locale are trained: its block of the table, its embedding or its head. The weights that locales share,
including those of the types, stay frozen. An embedding (CONCAT) is too small to learn what single words mean in the locale. Needs the
extra `aisle[train]`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.arrays import Floats, Progress, silent
from models.query_types.certainty import certainty_of_new_locale
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.fit_net import fit_net
from models.query_types.network import TypeNetwork
from models.query_types.recipe import LocaleInput, Variant
from models.query_types.tokens import LocaleRows
from models.query_types.train_types import holdout_rows, locale_spec, rounded_net
from models.query_types.type_model import TypeModel
from models.query_types.type_net import NetSpec, TypeNet
from models.unified.words import Ragged

_ADDED_BITS = 12  # the new locale's words have 4,096 rows


def add_locale(
    model: TypeModel, examples: TypeExamples, locale: str, *, seed: int = 0, progress: Progress = silent
) -> TypeModel:
    """Returns a new model that also has `locale`; `model` stays unchanged.

    It trains on the rows of `examples` in that locale; their types may be numbered differently from the model's. Raises ExamplesError
    if the model has the locale already, ignores locales (U_AG) or has a Hugging Face encoder, if there are fewer than two rows, or if
    one of their types is not in the model: a new type needs a new training.
    """
    nets = [net for net in model.nets if isinstance(net, TypeNet)]
    if len(nets) < len(model.nets):
        raise ExamplesError(
            "no locale can be added to a model with a Hugging Face encoder; train it again with the locale"
        )
    if model.recipe.variant == Variant.U_AG:
        raise ExamplesError("a U_AG model knows no locale, so that none can be added")
    if model.knows(locale):
        raise ExamplesError(f"the model knows the locale {locale!r} already")
    own = _renumbered(examples.of_locale(locale), model.types, locale)
    if len(own) < 2:
        raise ExamplesError(f"{len(own)} examples of {locale}; two are the least to learn from")
    held = holdout_rows(own, model.recipe.holdout_share, seed)
    learned, holdout = own.take(~held), own.take(held)
    # The shared weights are frozen, so that only what is specific to the locale can be learned.
    recipe = replace(model.recipe, locale_dropout=0.0, locale_penalty=0.0)

    def report(done: int, total: int) -> None:
        progress(f"add {locale}", done, total)

    if model.recipe.variant == Variant.NU:
        spec = locale_spec(learned, recipe)
        nets = [*nets, rounded_net(spec, fit_net(spec, learned, holdout, recipe, seed, report))]
    else:
        spec, first = _with_locale(nets[0].spec, nets[0].weights, locale)
        rows_before = nets[0].spec.num_rows

        def freeze(network: TypeNetwork) -> None:
            _keep_only(network, rows_before)

        fitted = fit_net(spec, learned, holdout, recipe, seed, report, first=first, freeze=freeze)
        nets = [rounded_net(spec, fitted)]
    locales = (*model.locales, locale)
    grown = TypeModel(model.types, locales, model.recipe, nets, model.certainty, model.allowed)
    certainty = {**model.certainty, locale: certainty_of_new_locale(grown, holdout)}
    return TypeModel(model.types, locales, model.recipe, nets, certainty, model.allowed)


def _with_locale(spec: NetSpec, weights: dict[str, Floats], locale: str) -> tuple[NetSpec, dict[str, Floats]]:
    """Extends the network by one locale, which adds nothing yet, or equals the entry of no locale."""
    grown = dict(weights)
    block, num_rows = LocaleRows(2**spec.hashing.bits, spec.hashing.bits), spec.num_rows
    if spec.locale_input == LocaleInput.PREFIX:
        block, num_rows = LocaleRows(spec.num_rows, _ADDED_BITS), spec.num_rows + 2**_ADDED_BITS
        grown["tokens.weight"] = np.concatenate(
            [weights["tokens.weight"], np.zeros((2**_ADDED_BITS, spec.dim), np.float32)]
        )
    elif spec.locale_input == LocaleInput.CONCAT:
        grown["locale.weight"] = np.concatenate([weights["locale.weight"], weights["locale.weight"][-1:]])
    else:
        for name in ("heads.weight", "heads.bias"):
            grown[name] = np.concatenate([weights[name], np.zeros_like(weights[name][:1])])
    return replace(spec, locales=(*spec.locales, locale), rows=(*spec.rows, block), num_rows=num_rows), grown


def _keep_only(network: TypeNetwork, rows_before: int) -> None:
    """Clears the gradients of all weights that other locales use."""
    at = len(network.net.locales) - 1
    for name, parameter in network.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        if name == "tokens.weight" and network.net.locale_input == LocaleInput.PREFIX:
            sparse = gradient.coalesce()
            new = sparse.indices()[0] >= rows_before
            parameter.grad = torch.sparse_coo_tensor(
                sparse.indices()[:, new], sparse.values()[new], sparse.shape, is_coalesced=True, check_invariants=False
            )
        elif name == "locale.weight" or name.startswith("heads."):
            kept = gradient[at].clone()
            gradient.zero_()
            gradient[at] = kept
        else:
            parameter.grad = None


def _renumbered(examples: TypeExamples, types: tuple[str, ...], locale: str) -> TypeExamples:
    number = {name: at for at, name in enumerate(types)}
    used = sorted(set(examples.labels.values.tolist()))
    unknown = [examples.types[at] for at in used if examples.types[at] not in number]
    if unknown:
        raise ExamplesError(f"{len(unknown)} types of the examples are unknown to the model, {unknown[0]!r} among them")
    to = np.array([number.get(name, -1) for name in examples.types], np.int32)
    labels = Ragged(to[examples.labels.values], examples.labels.offsets)
    rows = len(examples)
    return TypeExamples(examples.queries, np.zeros(rows, np.int32), labels, examples.weight, types, (locale,))
