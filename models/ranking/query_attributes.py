"""What the words of a query ask for, as marks of products: "corner" for a size, "cheap" for a price band, in whatever language.

A table of words, each of a language, with the marks that what was clicked after it has more, or less, often than usual. Read with NumPy
and safetensors alone; `models.ranking.learn_query_attributes` makes it of a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.arrays import Codes, Float16s
from models.query_types.tokens import language_of
from models.ranking.taste import Marks, name_hash

FILE = "asked_marks.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class QueryAttributes:
    """Word i has marks[starts[i]:starts[i + 1]], each once."""

    words: npt.NDArray[np.uint32]  # (words,) ascending: see `word_key`
    starts: Codes  # (words + 1,)
    marks: Marks  # (n,)
    lifts: Float16s  # (n,) log of how often over how often usually

    @classmethod
    def none(cls) -> QueryAttributes:
        """Of a ranker that learned no word."""
        return cls(np.zeros(0, np.uint32), np.zeros(1, np.int32), np.zeros(0, np.uint64), np.zeros(0, np.float16))

    def parts(self, words: Sequence[str], locale: str) -> list[slice]:
        """Where the marks of each known word are."""
        language = language_of(locale)
        keys = np.fromiter((word_key(word, language) for word in words), np.uint32, len(words))
        at = np.searchsorted(self.words, keys)
        known = at[self.words.take(at, mode="clip") == keys] if len(self.words) else at[:0]
        return [slice(int(self.starts[row]), int(self.starts[row + 1])) for row in known.tolist()]

    def save(self, folder: Path) -> None:
        save_file({"words": self.words, "starts": self.starts, "marks": self.marks, "lifts": self.lifts}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> QueryAttributes:
        """Raises ValueError where the file is missing or damaged."""
        try:
            read = load_file(folder / FILE)
            found = cls(read["words"], read["starts"], read["marks"], read["lifts"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{FILE} cannot be read: {error}") from None
        ends = len(found.words) + 1, len(found.marks), len(found.marks)
        if (len(found.starts), int(found.starts.max(initial=-1)), len(found.lifts)) != ends:
            raise ValueError(f"{FILE} is damaged: its arrays do not fit each other")
        return found


def word_key(word: str, language: str) -> int:
    """Locales of a language share its words."""
    return name_hash(f"{language} {word}")
