"""Classifiers that an evaluation trains, cached in its folder, so that an interrupted evaluation resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.arrays import Progress
from models.query_types.examples import TypeExamples
from models.query_types.recipe import TypesRecipe
from models.query_types.train_types import train_types
from models.query_types.type_files import TypeModelError
from models.query_types.type_model import TypeModel
from models.text_encoder.hugging_face import encoder_fingerprint
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True)
class TrainedTypes:
    """A cache of trained classifiers."""

    folder: Path
    progress: Progress

    def train(self, name: str, examples: TypeExamples, recipe: TypesRecipe, seed: int) -> TypeModel:
        """Returns the classifier, loaded from disk; trains it unless an earlier call had the same examples, recipe and seed."""
        kept = self.folder / _key(examples, recipe, seed)
        try:
            return TypeModel.load(kept)
        except TypeModelError:
            shutil.rmtree(kept, ignore_errors=True)
        model = train_types(
            examples,
            recipe,
            seed=seed,
            progress=lambda what, done, total: self.progress(f"{name}: {what}", done, total),
        )
        partial = kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save(partial)
        partial.rename(kept)
        return TypeModel.load(kept)


def concat_examples(one: TypeExamples, other: TypeExamples) -> TypeExamples:
    """Concatenates examples that number the same types; locales that only `other` has come last."""
    if one.types != other.types:
        raise ValueError("the examples number different types")
    locales = (*one.locales, *(name for name in other.locales if name not in one.locales))
    number = np.array([locales.index(name) for name in other.locales], np.int32)
    return TypeExamples(
        [*one.queries, *other.queries],
        np.concatenate([one.locale, number[other.locale]]).astype(np.int32),
        Ragged.concatenate([one.labels, other.labels]),
        np.concatenate([one.weight, other.weight]),
        one.types,
        locales,
    )


def _key(examples: TypeExamples, recipe: TypesRecipe, seed: int) -> str:
    base = "" if recipe.encoder is None else encoder_fingerprint(recipe.encoder.base)
    text = json.dumps(
        [asdict(recipe), base, seed, examples.types, examples.locales, examples.queries], ensure_ascii=False
    )
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for array in (examples.locale, examples.labels.values, examples.labels.offsets, examples.weight):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
