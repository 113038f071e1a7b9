"""Typing errors as shoppers make them, for simulated queries and for tests of robustness on real ones."""

from __future__ import annotations

from collections.abc import Callable

from models.draws import Draws

_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def misspell(text: str, draws: Draws) -> str:
    """Returns the text with one error in its longest word: a letter dropped, doubled, swapped or replaced by its neighbour."""
    words = text.split(" ")
    at = max(range(len(words)), key=lambda index: len(words[index]))
    for _ in range(8):  # swapping or replacing may change nothing, as in "oo"
        wrong = draws.pick(_ERRORS)(words[at], draws)
        if wrong != words[at]:
            return " ".join((*words[:at], wrong, *words[at + 1 :]))
    return " ".join((*words[:at], words[at] + words[at][-1], *words[at + 1 :]))


def _drop(word: str, draws: Draws) -> str:
    at = draws.below(len(word))
    return word[:at] + word[at + 1 :] if len(word) > 1 else word


def _double(word: str, draws: Draws) -> str:
    at = draws.below(len(word))
    return word[: at + 1] + word[at:]


def _swap(word: str, draws: Draws) -> str:
    at = draws.below(max(1, len(word) - 1))
    return word[:at] + word[at : at + 2][::-1] + word[at + 2 :]


def _hit_neighbour(word: str, draws: Draws) -> str:
    at = draws.below(len(word))
    for row in _KEY_ROWS:
        if word[at] in row:
            key = row.index(word[at])
            neighbours = row[max(0, key - 1) : key] + row[key + 1 : key + 2]
            return word[:at] + draws.pick(neighbours) + word[at + 1 :]
    return word


_ERRORS: tuple[Callable[[str, Draws], str], ...] = (_drop, _double, _swap, _hit_neighbour)
