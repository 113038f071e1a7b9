"""The simulated store in other languages: what its locales call things, their queries, and the searches of their storefronts."""

from models.sample_store.locales.language import Language
from models.sample_store.locales.locale_queries import LocaleQuery, write_locale_query
from models.sample_store.locales.spoken import MAIN_LOCALE, Locale, all_locales, locale_named
from models.sample_store.locales.storefront_parameters import StorefrontParameters, default_volumes
from models.sample_store.locales.storefronts import StorefrontLog, StorefrontSearch
from models.sample_store.locales.traps import DialectTrap, dialect_traps

__all__ = [
    "MAIN_LOCALE",
    "DialectTrap",
    "Language",
    "Locale",
    "LocaleQuery",
    "StorefrontLog",
    "StorefrontParameters",
    "StorefrontSearch",
    "all_locales",
    "default_volumes",
    "dialect_traps",
    "locale_named",
    "write_locale_query",
]
