"""Which attributes of a catalogue tell its products apart: a rule by coverage and number of values, in place of names of columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

LEAST_SHARE = 0.001  # of the products, which a value needs to count: nothing is learned from rarer ones
LONGEST_VALUE_CHARS = 24  # a longer value is prose, not something that products share
LEAST_PROSE_CHARS = 40  # mean length of an attribute that is prose


def shared_information(products: Iterable[Mapping[str, str]]) -> dict[str, float]:
    """Returns for each attribute the bits that its shared values tell of a product, the most informative first, equals by name.

    It is the sum of -p log2 p over the values that a share p >= LEAST_SHARE of all products have, two at least. So an attribute counts
    that many products have and that has many values, but not one whose value each product has for itself, and not one that is the same
    everywhere. Values with a digit are codes and measures, and count as none.
    """
    counts: dict[str, Counter[str]] = {}
    num_products = 0
    for attributes in products:
        num_products += 1
        for name, text in attributes.items():
            value = text.strip()
            if 0 < len(value) <= LONGEST_VALUE_CHARS and not any(map(str.isdigit, value)):
                counts.setdefault(name, Counter())[value.casefold()] += 1
    least = max(2.0, LEAST_SHARE * num_products)
    bits = {}
    for name, values in counts.items():
        shares = np.array([count for count in values.values() if count >= least], np.float64) / max(num_products, 1)
        bits[name] = float(-(shares * np.log2(shares)).sum()) if len(shares) else 0.0
    return dict(sorted(bits.items(), key=lambda item: (-item[1], item[0])))


def longest_prose(products: Iterable[Mapping[str, str]]) -> str | None:
    """Returns the attribute with the most text in the catalogue among those of LEAST_PROSE_CHARS and more in the mean; None without one."""
    chars: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for attributes in products:
        for name, text in attributes.items():
            chars[name] += len(text)
            cells[name] += 1
    prose = [name for name in chars if chars[name] >= LEAST_PROSE_CHARS * cells[name]]
    return max(prose, key=lambda name: (chars[name], name), default=None)
