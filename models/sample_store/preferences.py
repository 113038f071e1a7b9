"""What simulated shoppers prefer: a table of favourite brands, styles, colours and audiences, drawn for each shopper.

A shopper has two favourite brands in each department, the first of which changes; two favourite styles in each family, the first of which
changes; two favourite colours of each palette; a favourite audience, and at times that of a child.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.brands import load_brands
from models.sample_store.latents import LatentColumns
from models.sample_store.product_types import departments
from models.sample_store.words import Word, load_words, sellers

# The values of the table. A first favourite that changes is FORMER, and what it changes to is LATER.
NEUTRAL, FAVOURITE, SECOND, FORMER, LATER = range(5)


@dataclass(frozen=True, slots=True)
class PreferenceColumns:
    """The columns of the table: brands, colours, styles, audiences, and a last one that is nobody's favourite."""

    first: Mapping[str, int]  # "brand", "colour", "style", "audience" -> the column of the first of them
    neutral: int  # the last column, for what cannot be preferred


@cache
def preference_columns() -> PreferenceColumns:
    """Returns the columns that follow from the vocabulary."""
    words = load_words()
    first, column = {}, 0
    for name, count in (
        ("brand", len(load_brands())),
        ("colour", len(words.colours)),
        ("style", len(words.styles)),
        ("audience", len(words.audiences)),
    ):
        first[name] = column
        column += count
    return PreferenceColumns(first, column)


def columns_of(latents: LatentColumns) -> npt.NDArray[np.int16]:
    """Returns (num_products, 4) the columns of the brand, colour, style and audience of each product."""
    columns = [
        np.where((values := getattr(latents, name)) >= 0, first + values, preference_columns().neutral)
        for name, first in preference_columns().first.items()
    ]
    return np.stack(columns, axis=1).astype(np.int16)


def draw_preferences(num_shoppers: int, seed: int) -> npt.NDArray[np.int8]:
    """Draws the table (num_shoppers, columns) of NEUTRAL to LATER."""
    words, columns = load_words(), preference_columns()
    table = np.full((num_shoppers, columns.neutral + 1), NEUTRAL, np.int8)
    groups = [(brands_of(department), True) for department in departments()]
    groups += [(_columns("style", words.styles, family), True) for family in words.style_families.values()]
    groups += [(_columns("colour", words.colours, palette), False) for palette in words.palettes.values()]
    draws = draw_uniforms(mix(seed) ^ 4, np.arange(num_shoppers), 3 * len(groups) + 2)
    for at, (group, changes) in enumerate(groups):
        _set_favourites(table, np.array(group), draws[:, 3 * at : 3 * at + 3], changes)
    women, men, girls, boys, unisex = range(columns.first["audience"], columns.neutral)
    rows = np.arange(num_shoppers)
    table[rows, np.where(draws[:, -1] < 0.5, women, men)] = FAVOURITE
    table[:, unisex] = SECOND
    is_parent = draws[:, -2] < 0.3
    table[rows[is_parent], np.where(draws[is_parent, -2] < 0.15, girls, boys)] = FAVOURITE
    return table


def brands_of(department: str) -> list[int]:
    """Returns the numbers of the brands that sell in a department, which are their columns as well."""
    return [at for at, brand in enumerate(load_brands()) if department in brand.departments]


def _set_favourites(table: npt.NDArray[np.int8], columns: Ints, draws: Doubles, changes: bool) -> None:
    """Draws a first and a second favourite, and what the first changes to, all different where there are enough."""
    rows = np.arange(len(table))
    chosen = (draws * len(columns)).astype(np.int64)
    first, second, later = columns[chosen].T
    if changes:
        table[rows, later] = LATER
        table[rows, first] = np.where(first == later, FAVOURITE, FORMER)
        kept = (second != first) & (second != later)
        table[rows[kept], second[kept]] = SECOND
    else:
        table[rows, second] = SECOND
        table[rows, first] = FAVOURITE


def _columns(name: str, words: tuple[Word, ...], group: tuple[str, ...]) -> list[int]:
    first, names = preference_columns().first[name], sellers(words)
    return [first + names.index(word) for word in group]
