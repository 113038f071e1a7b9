"""Reads the TOML files of `data/` and checks every value, so that a slip in a file is reported with its file and key.

The checks are written by hand because importing pydantic takes 115 ms, three times as long as reading the vocabulary.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NoReturn


class DataFileError(ValueError):
    """A data file holds a wrong value. The text names the file and the key."""


class DataTable:
    """A table of a data file. Its keys are read one by one; `end` refuses those that nobody read."""

    def __init__(self, file: str, key: str, values: dict[str, object]) -> None:
        self._file, self._key, self._values = file, key, values
        self._read: set[str] = set()

    @classmethod
    def parse(cls, file: str, text: str) -> DataTable:
        """Parses the text of a file. Raises DataFileError if it is no valid TOML, as with a repeated key."""
        try:
            return cls(file, "", tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise DataFileError(f"{file}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def text(self, name: str, *, allowed: Collection[str] = (), default: str | None = None) -> str:
        """Returns a string, one of `allowed` if there are any. Without a default the key is required."""
        value = self._value(name, default)
        if not isinstance(value, str) or (value != default and not _is_text(value)):
            self.fail(name, f"must be a text without outer blanks, not {value!r}")
        if allowed and value != default:
            self._check_allowed(name, value, allowed)
        return value

    def integer(self, name: str, low: int, high: int, *, default: int | None = None) -> int:
        """Returns an integer from `low` to `high`."""
        return self._integer(name, self._value(name, default), low, high)

    def integer_range(self, name: str, low: int, high: int) -> tuple[int, int]:
        """Returns two integers from `low` to `high`, the first below the second."""
        value = self._value(name, None)
        if not isinstance(value, list) or len(value) != 2:
            self.fail(name, f"must be [lowest, highest], not {value!r}")
        first, second = (self._integer(name, item, low, high) for item in value)
        if first >= second:
            self.fail(name, f"must be [lowest, highest], not {value!r}")
        return first, second

    def texts(
        self, name: str, *, allowed: Collection[str] = (), is_optional: bool = False, can_be_empty: bool = False
    ) -> tuple[str, ...]:
        """Returns a list of different strings, all of `allowed` if there are any; () if the key is optional and missing."""
        if is_optional and name not in self._values:
            self._read.add(name)
            return ()
        values = self._texts(name, self._value(name, None), allowed)
        if not values and not can_be_empty:
            self.fail(name, "must be a list of one or more different texts, not []")
        return values

    def text_lists(self, name: str, length: int) -> tuple[tuple[str, ...], ...]:
        """Returns `length` lists of strings."""
        value = self._value(name, None)
        if not isinstance(value, list) or len(value) != length:
            self.fail(name, f"must be {length} lists, not {value!r}")
        return tuple(self._texts(name, item, ()) for item in value)

    def table(self, name: str, *, is_optional: bool = False) -> DataTable:
        """Returns an inner table; an empty one if it is optional and missing."""
        value = self._value(name, {} if is_optional else None)
        if not isinstance(value, dict):
            self.fail(name, f"must be a table, not {value!r}")
        return DataTable(self._file, self._path(name), value)

    def all_texts(
        self, *, names: Collection[str] = (), allowed: Collection[str] = (), can_be_empty: bool = False
    ) -> dict[str, tuple[str, ...]]:
        """Returns all keys with their lists of strings; the keys are of `names` and the strings of `allowed`, if there are any."""
        self._check_names(names)
        return {name: self.texts(name, allowed=allowed, can_be_empty=can_be_empty) for name in self}

    def all_integers(self, low: int, high: int, *, names: Collection[str]) -> dict[str, int]:
        """Returns all keys, which are of `names`, with their integers."""
        self._check_names(names)
        return {name: self.integer(name, low, high) for name in self}

    def end(self) -> None:
        """Refuses keys that were not read."""
        for name in self:
            if name not in self._read:
                self.fail(name, f"is not a known key; the known ones are {', '.join(sorted(self._read))}")

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raises DataFileError for a key of this table."""
        raise DataFileError(f"{self._file}: {self._path(name)} {problem}")

    def _value(self, name: str, default: object) -> object:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is None:
            self.fail(name, "is missing")
        return value

    def _integer(self, name: str, value: object, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(name, f"must be an integer from {low} to {high}, not {value!r}")
        return value

    def _texts(self, name: str, value: object, allowed: Collection[str]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(map(_is_text, value)) or len(set(value)) < len(value):
            self.fail(name, f"must be a list of one or more different texts without outer blanks, not {value!r}")
        if allowed:
            for item in value:
                self._check_allowed(name, item, allowed)
        return tuple(value)

    def _check_allowed(self, name: str, value: str, allowed: Collection[str]) -> None:
        if value not in allowed:
            self.fail(name, f"has {value!r}, which is none of {', '.join(sorted(allowed))}")

    def _check_names(self, names: Collection[str]) -> None:
        for name in self:
            if names and name not in names:
                self.fail(name, f"is none of {', '.join(sorted(names))}")

    def _path(self, name: str) -> str:
        return f"{self._key}.{name}" if self._key else name


def read_data_file(path: str) -> DataTable:
    """Reads a file by its path in `data/`, as "languages/german.toml". Raises DataFileError if it is no valid TOML."""
    return DataTable.parse(path, data_folder().joinpath(path).read_text(encoding="utf-8"))


def data_folder() -> Traversable:
    """Returns the folder of the data files, inside of a wheel as well."""
    return resources.files("models.sample_store").joinpath("data")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value == value.strip()
