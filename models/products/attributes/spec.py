"""The attributes of a catalogue as the build is told of them: name, type and unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.products.errors import CatalogueError

ALL_KEYS = ".*"


class AttributeType(StrEnum):
    """What the values of an attribute are, and so what can be asked of it."""

    KEYWORD = "keyword"  # one word of a set: filters by any of some values, facets
    KEYWORDS = "keywords"  # several of them: a list, or separated by "|"
    NUMBER = "number"  # with or without a unit: ranges, facets by range, sorting
    BOOL = "bool"
    DATE = "date"  # ranges, sorting; milliseconds since 1970-01-01 UTC
    TEXT = "text"  # prose: returned, not filtered by


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """An attribute as it is stated. `name` is a column, "column.key" for a key of its objects or maps, or "column.*" for all their keys,
    each under its own name; a column of objects that is named alone gives an attribute "column.key" for each key. `type` None is inferred.
    """

    name: str
    type: AttributeType | None = None
    unit: str = ""  # the base unit of a number; "" is inferred

    @classmethod
    def parse(cls, text: str) -> AttributeSpec:
        """Reads "NAME", "NAME:TYPE" or "NAME:number:UNIT". Names may hold colons: what ends in no type is a name.

        Raises CatalogueError for a unit without a number.
        """
        name, _, last = text.rpartition(":")
        types = {str(one): one for one in AttributeType}
        if name and last in types:
            return cls(name, types[last])
        before, _, kind = name.rpartition(":")
        if before and kind == AttributeType.NUMBER and last:
            return cls(before, AttributeType.NUMBER, last)
        if before and kind in types:
            raise CatalogueError(f"attribute {text!r}: a unit goes with the type number, not {kind}")
        return cls(text)
