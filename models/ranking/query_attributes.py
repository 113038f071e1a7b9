"""The attributes that the words of a query ask for: "corner" a size, "cheap" a price band, in any language.

A table holds, for each word of a language, the attributes that products clicked after the word have more, or less, often than the baseline.
Reading it needs only NumPy and safetensors; `models.ranking.learn_query_attributes` learns it from a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.arrays import Codes, Float16s, UInt64s
from models.query_types.tokens import language_of
from models.ranking.taste import name_hash

FILE = "asked_marks.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class QueryAttributes:
    """Word i asks for keys[starts[i]:starts[i + 1]], each key once."""

    words: npt.NDArray[np.uint32]  # (words,) ascending, see `word_key`
    starts: Codes  # (words + 1,)
    keys: UInt64s  # (n,) attribute keys
    lifts: Float16s  # (n,)

    @classmethod
    def none(cls) -> QueryAttributes:
        """Returns an empty table."""
        return cls(np.zeros(0, np.uint32), np.zeros(1, np.int32), np.zeros(0, np.uint64), np.zeros(0, np.float16))

    def parts(self, words: Sequence[str], locale: str) -> list[slice]:
        """Returns where in `keys` the attributes of each word of the table are; words outside the table are skipped."""
        language = language_of(locale)
        hashes = np.fromiter((word_key(word, language) for word in words), np.uint32, len(words))
        at = np.searchsorted(self.words, hashes)
        known = at[self.words.take(at, mode="clip") == hashes] if len(self.words) else at[:0]
        return [slice(int(self.starts[row]), int(self.starts[row + 1])) for row in known.tolist()]

    def save(self, folder: Path) -> None:
        save_file({"words": self.words, "starts": self.starts, "marks": self.keys, "lifts": self.lifts}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> QueryAttributes:
        """Raises ValueError if the file is missing or damaged."""
        try:
            arrays = load_file(folder / FILE)
            loaded = cls(arrays["words"], arrays["starts"], arrays["marks"], arrays["lifts"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{FILE} cannot be read: {error}") from None
        ends = len(loaded.words) + 1, len(loaded.keys), len(loaded.keys)
        if (len(loaded.starts), int(loaded.starts.max(initial=-1)), len(loaded.lifts)) != ends:
            raise ValueError(f"{FILE} is damaged: its arrays do not fit each other")
        return loaded


def word_key(word: str, language: str) -> int:
    """Returns the hash of a word of a language; the locales of a language share its words."""
    return name_hash(f"{language} {word}")
