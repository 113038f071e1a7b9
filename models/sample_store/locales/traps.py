"""Dialect traps: queries with different product types in different locales, as "pants"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.sample_store.locales.read_locales import all_locales
from models.sample_store.product_types import load_product_types


@dataclass(frozen=True, slots=True)
class DialectTrap:
    """A query whose product type depends on the locale."""

    query: str
    types: Mapping[str, str]  # locale -> category path; without the locales where nobody uses the query

    def languages(self) -> frozenset[str]:
        return frozenset(locale.split("-")[0] for locale in self.types)


def dialect_traps() -> tuple[DialectTrap, ...]:
    """Returns all traps in the order of their queries: the nouns with different types within a language or across languages."""
    types_of: dict[str, dict[str, str]] = {}
    for locale in all_locales().values():
        for kind, nouns in zip(load_product_types(), locale.nouns, strict=True):
            for noun in nouns:
                types_of.setdefault(noun.text, {})[locale.name] = kind.category
    return tuple(DialectTrap(query, types) for query, types in sorted(types_of.items()) if len(set(types.values())) > 1)
