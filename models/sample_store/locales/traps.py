"""Dialect traps: nouns that want one product type in one locale and another one elsewhere, as "pants" do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.sample_store.locales.spoken import all_locales
from models.sample_store.product_types import PRODUCT_TYPES


@dataclass(frozen=True, slots=True)
class DialectTrap:
    """A query whose product type depends on where it is asked."""

    query: str
    types: Mapping[str, str]  # locale -> category path that is wanted there; locales that do not say it are not named

    def languages(self) -> frozenset[str]:
        return frozenset(locale.split("-")[0] for locale in self.types)


def dialect_traps() -> tuple[DialectTrap, ...]:
    """All traps in the order of their queries. They follow from the nouns of the locales, dialects and languages alike."""
    said: dict[str, dict[str, str]] = {}
    for locale in all_locales().values():
        for kind, nouns in zip(PRODUCT_TYPES, locale.nouns, strict=True):
            for noun in nouns:
                said.setdefault(noun.text, {})[locale.name] = kind.category
    return tuple(DialectTrap(query, types) for query, types in sorted(said.items()) if len(set(types.values())) > 1)
