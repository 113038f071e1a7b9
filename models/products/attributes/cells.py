"""Reads the attributes of a row: plain cells, lists, and the keys of objects and maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from models.products.attributes.spec import ALL_KEYS
from models.products.text import cell_text, clean_text

MAX_DEPTH = 4  # of objects within objects; what is deeper is text


class AttributeCells:
    """`columns` maps the name of each attribute, as in AttributeSpec, to its column, and `places` columns to places in a row. Attributes of
    `text` stay whole: they are encoded."""

    def __init__(self, text: Sequence[str], columns: Mapping[str, str], places: Mapping[str, int]) -> None:
        self._text = [(name, places[columns[name]]) for name in text]
        self._whole: list[tuple[str, int]] = []  # prefix of the names of keys, and place
        self._keys: list[tuple[str, tuple[str, ...], int]] = []  # name, path of keys, place
        for name, column in columns.items():
            if name in text:
                continue
            if name == column:
                self._whole.append((name, places[column]))
            elif name == column + ALL_KEYS:
                self._whole.append(("", places[column]))
            else:
                self._keys.append((name, tuple(name[len(column) + 1 :].split(".")), places[column]))

    def read(self, values: Sequence[object]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        """Returns the texts of the attributes that are not empty, and the items of those that are lists.

        Raises UnicodeDecodeError for bytes that are not UTF-8.
        """
        texts: dict[str, str] = {}
        lists: dict[str, tuple[str, ...]] = {}
        for name, place in self._text:
            _put(name, values[place], texts, lists)
        for prefix, place in self._whole:
            for name, value in _flat(prefix, values[place]):
                _put(name, value, texts, lists)
        for name, path, place in self._keys:
            _put(name, _at(values[place], path), texts, lists)
        return texts, lists


def pairs_of(value: object) -> list[tuple[str, object]] | None:
    """Returns the keys and values of an object, an Arrow map, or a list as [{"name": "colour", "value": "red"}]; None for other cells. A
    key that is repeated has the list of its values."""
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, tuple) and len(item) == 2 for item in value):
        pairs = [(str(key), one) for key, one in value]
    elif all(isinstance(item, dict) and "value" in item and ("name" in item or "key" in item) for item in value):
        pairs = [(str(item.get("name", item.get("key"))), item["value"]) for item in value]
    else:
        return None
    merged: dict[str, object] = {}
    for key, one in pairs:
        merged[key] = [*_as_list(merged[key]), *_as_list(one)] if key in merged else one
    return list(merged.items())


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _flat(prefix: str, value: object, depth: int = 0) -> Iterator[tuple[str, object]]:
    pairs = pairs_of(value) if depth < MAX_DEPTH else None
    if pairs is None:
        if prefix:
            yield prefix, value
        return
    for key, one in pairs:
        if name := clean_text(key):
            yield from _flat(f"{prefix}.{name}" if prefix else name, one, depth + 1)


def _at(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = dict(pairs_of(value) or ()).get(key)
    return value


def _put(name: str, value: object, texts: dict[str, str], lists: dict[str, tuple[str, ...]]) -> None:
    if isinstance(value, list | tuple):
        items = tuple(dict.fromkeys(text for item in value if (text := clean_text(cell_text(item)))))
        if not items:
            return
        texts[name] = clean_text(cell_text(value))
        lists[name] = items
    elif text := clean_text(cell_text(value)):
        texts[name] = text
