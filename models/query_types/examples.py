"""Labelled queries, for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Floats, Ints
from models.errors import InputError
from models.unified.words import Ragged

Rows = npt.NDArray[np.integer] | Bools


class ExamplesError(InputError):
    """The examples cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class TypeExamples:
    """Labelled queries: row i is in locales[locale[i]] and has the types labels.row(i)."""

    queries: list[str]  # as typed
    locale: Codes  # (rows,) into locales
    labels: Ragged  # rows of indices into types, at least one each
    weight: Floats  # (rows,) above 0, e.g. the engagement behind the row
    types: tuple[str, ...]
    locales: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = len(self.queries)
        if not rows == len(self.locale) == len(self.labels) == len(self.weight):
            raise ExamplesError(
                f"{rows} queries, {len(self.locale)} locales, {len(self.labels)} rows of labels and {len(self.weight)} "
                "weights differ in number"
            )
        for name, names in (("types", self.types), ("locales", self.locales)):
            if len(set(names)) < len(names):
                raise ExamplesError(f"{name} must differ; {len(names) - len(set(names))} of {len(names)} come twice")
        if not rows:
            return
        _check_range("locale", self.locale, len(self.locales))
        if (self.labels.lengths < 1).any():
            raise ExamplesError(f"row {int(np.argmin(self.labels.lengths))} has no label; every row needs one")
        _check_range("labels", self.labels.values, len(self.types))
        if not (np.isfinite(self.weight) & (self.weight > 0)).all():
            raise ExamplesError("weights must be above 0 and finite")

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: Rows) -> TypeExamples:
        """Returns the rows with these numbers, or those that a mask (rows,) selects; types and locales keep their numbers."""
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, np.int64)
        return TypeExamples(
            [self.queries[row] for row in at.tolist()],
            self.locale[at],
            self.labels.take(at),
            self.weight[at],
            self.types,
            self.locales,
        )

    def of_locale(self, locale: str) -> TypeExamples:
        """Returns the rows in this locale, which may be none."""
        number = self.locales.index(locale) if locale in self.locales else -1
        return self.take(self.locale == number)

    def label_matrix(self) -> Bools:
        """Returns (rows, types) whether each type is a label of the row."""
        matrix = np.zeros((len(self), len(self.types)), np.bool_)
        matrix[np.repeat(np.arange(len(self)), self.labels.lengths), self.labels.values] = True
        return matrix

    def row_locales(self) -> list[str]:
        """Returns the name of each row's locale."""
        return [self.locales[at] for at in self.locale.tolist()]

    def rows_by_locale(self) -> Ints:
        """Returns (locales,) the number of rows in each."""
        return np.bincount(self.locale, minlength=len(self.locales))

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[tuple[str, str, Sequence[str]]],
        types: Sequence[str] | None = None,
        locales: Sequence[str] | None = None,
    ) -> TypeExamples:
        """Takes rows (query, locale, types) of weight 1. Types and locales are numbered in alphabetical order unless given."""
        rows = list(rows)
        types = tuple(types if types is not None else sorted({label for _, _, labels in rows for label in labels}))
        locales = tuple(locales if locales is not None else sorted({locale for _, locale, _ in rows}))
        type_at = {name: at for at, name in enumerate(types)}
        locale_at = {name: at for at, name in enumerate(locales)}
        try:
            return cls(
                [query for query, _, _ in rows],
                np.array([locale_at[locale] for _, locale, _ in rows], np.int32),
                Ragged.from_rows([sorted({type_at[label] for label in labels}) for _, _, labels in rows]),
                np.ones(len(rows), np.float32),
                types,
                locales,
            )
        except KeyError as error:
            raise ExamplesError(f"{error.args[0]!r} is neither among the types nor among the locales given") from None


def _check_range(name: str, values: Codes, size: int) -> None:
    if values.min() < 0 or values.max() >= size:
        raise ExamplesError(f"{name} must be 0 to {size - 1}, and run from {values.min()} to {values.max()}")
