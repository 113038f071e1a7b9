"""The storefronts of other locales: their words for products, their queries, and the log of their searches.

`language` defines a language and a locale, `read_locales` reads them from `data/languages/`, `locale_queries` writes queries, `storefronts`
makes the log, and `traps` lists the queries that mean different products in different locales.
"""

from models.sample_store.locales.language import Language, Locale, Noun
from models.sample_store.locales.locale_queries import LocaleQuery, write_locale_query
from models.sample_store.locales.read_locales import MAIN_LOCALE, all_locales, locale_named
from models.sample_store.locales.storefront_parameters import StorefrontParameters, default_volumes
from models.sample_store.locales.storefronts import StorefrontLog, StorefrontSearch
from models.sample_store.locales.traps import DialectTrap, dialect_traps

__all__ = [
    "MAIN_LOCALE",
    "DialectTrap",
    "Language",
    "Locale",
    "LocaleQuery",
    "Noun",
    "StorefrontLog",
    "StorefrontParameters",
    "StorefrontSearch",
    "all_locales",
    "default_volumes",
    "dialect_traps",
    "locale_named",
    "write_locale_query",
]
