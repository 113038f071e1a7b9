"""Draws the pages and rows that the text stage trains on, with the weights that undo the draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.errors import InputError
from models.ranking.impressions import Impressions
from models.ranking.teacher.recipe import PageSample


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """A sample of impressions, page after page. The sum of page_weight * stands_for over its rows is near the number of all rows."""

    rows: Ints  # (rows,) of the impressions, ascending within a page
    page: Ints  # (rows,) 0 to num_pages - 1
    stands_for: Floats  # (rows,) how many products of its page each stands for
    page_weight: Floats  # (rows,) how many pages its page stands for
    num_pages: int

    @property
    def weight(self) -> Floats:
        """(rows,) how many rows of the log each stands for."""
        return self.stands_for * self.page_weight

    @property
    def offsets(self) -> Ints:
        return np.searchsorted(self.page, np.arange(self.num_pages + 1))


def draw_sample(shown: Impressions, sample: PageSample, seed: int, among: Ints) -> RowSample:
    """Draws from the pages `among`. The same impressions, sample, seed and pages give the same rows."""
    random = np.random.default_rng([seed, 0x5A])
    pages, weights = _draw_pages(shown, sample, random, among)
    offsets = shown.offsets
    engaged = shown.labels[:, 0] > 0
    rows: list[Ints] = []
    stands_for: list[Floats] = []
    for page in pages.tolist():
        page_rows = np.arange(offsets[page], offsets[page + 1])
        chosen, others = page_rows[engaged[page_rows]], page_rows[~engaged[page_rows]]
        drawn = others
        if sample.others is not None and len(others) > sample.others:
            drawn = random.choice(others, sample.others, replace=False)
        both = np.concatenate((chosen, drawn))
        counts = np.concatenate((np.ones(len(chosen)), np.full(len(drawn), len(others) / max(1, len(drawn)))))
        order = np.argsort(both)
        rows.append(both[order])
        stands_for.append(counts[order].astype(np.float32))
    sizes = [len(part) for part in rows]
    return RowSample(
        rows=np.concatenate(rows),
        page=np.repeat(np.arange(len(pages)), sizes),
        stands_for=np.concatenate(stands_for),
        page_weight=np.repeat(weights, sizes).astype(np.float32),
        num_pages=len(pages),
    )


def _draw_pages(
    shown: Impressions, sample: PageSample, random: np.random.Generator, among: Ints
) -> tuple[Ints, Floats]:
    """Returns pages in random order, and how many each stands for. A group that is too small leaves its share to the next groups."""
    strongest = np.zeros(shown.num_pages, np.int64)
    np.maximum.at(strongest, shown.page, shown.labels.sum(axis=1).astype(np.int64))
    strongest = strongest[among]
    groups = [among[strongest == 3], among[(strongest > 0) & (strongest < 3)], among[strongest == 0]]
    left = len(among) if sample.pages is None else min(sample.pages, len(among))
    shares = (sample.bought_share, sample.engaged_share / (1 - sample.bought_share), 1.0)
    pages: list[Ints] = []
    weights: list[Floats] = []
    for group, share in zip(groups, shares, strict=True):
        count = len(group) if sample.pages is None else min(len(group), round(share * left))
        pages.append(random.choice(group, count, replace=False) if count else group[:0])
        weights.append(np.full(count, len(group) / max(1, count), np.float32))
        left -= count
    order = random.permutation(sum(map(len, pages)))
    return np.concatenate(pages)[order], np.concatenate(weights)[order]


def split_pages(num_pages: int, holdout_share: float, seed: int) -> tuple[Ints, Ints]:
    """Splits two or more pages into training and calibration pages, each ascending and at least one of either."""
    if num_pages < 2:
        raise InputError(f"{num_pages} pages; two are the least to learn from and to calibrate on")
    held = min(num_pages - 1, max(1, round(holdout_share * num_pages)))
    order = np.random.default_rng([seed, 0x51]).permutation(num_pages)
    return np.sort(order[held:]), np.sort(order[:held])
