"""The sample store: a synthetic shop of 1 to 10,000,000 products with simulated shoppers, for trials, tests and measurements.

**Everything is simulated.** Products, brands, prices, queries and behaviour were made up for this store. No figure measured on them
predicts how well search works for real shoppers.

The words are data: `data/` holds the product types, brands, attributes and languages as TOML files, which `product_types`, `brands`,
`words` and `locales.read_locales` read once and check. A change of a word or of an order makes another store; the digest in the tests
reports it.

**Products** follow from their number and the seed alone (splitmix64, integers only), so any range can be made on any machine. A smaller
store is the beginning of a larger store with the same seed.

1. A product has a *type* (115 in 12 departments, each with a share), a *brand* of the department (few brands have many products), and a
   colour, material, style, size, feature and audience if its type has them. Half of a brand's products are in the brand's styles.
2. Its *price* is log-normal within the range of its type, shifted by the brand's tier, the material and the size, with the usual endings.
   The *price band* is its fifth among the products of its type. 8% are out of stock.
3. *Quality* and *popularity* (Pareto, exponent 1) are not in the catalogue; they are for the simulation of shoppers.
4. The *seller* writes the texts (`wording`): one of five or six forms of titles, a product line or a model number, and a description of
   one or two sentences.
5. A *shopper* writes queries in other words (`queries`): 60% of nouns are the shopper's ("couch" for sofa), and half of the colours,
   materials and so on ("dark red" for burgundy); 5% of queries have a typing error.

**The shopping log** (`simulated_log`) is drawn from a model with a known truth. There are two *families* of such models (`family`), which
share shoppers, tastes and queries: "additive" is described below, and "cascade" differs where it says so. Their numbers (`parameters`)
are chosen, not measured, and `truth.json` states them next to every log. It is for trials and tests of models that learn from logs.

1. *Shoppers* (`shoppers`, `preferences`): a tenth are habitual and come 14 times as often as the others; within a class activity is
   log-normal. A shopper prefers three departments, two brands in each department, two styles of each style family, two colours of each
   palette, an audience, a size and a price band. Preferences drift: the first brands and styles change once within a year of the log's
   start, and the price band by up to one band a year. Occasional shoppers have half the strength of preference. Three sessions in ten are
   anonymous.
2. *Searches* (`sessions`, `intents`): 1 to 6 in a session, mostly for the same product type. The queries of a type have Zipf's
   popularity: "sofa" is common and "burgundy velvet sofa" rare. A shopper draws two queries and takes the one nearer to the own
   preferences.
3. *Result pages* (`page_draws`, `result_pages`): 24 products by a lexical ranker that uses popularity, but neither the shopper nor synonyms
   of attributes. 15% of products are launched within the window and appear only afterwards. Stock does not change over time.
4. *Engagement* (`engagement`): a shopper scrolls through 4 to 24 results, which are the impressions of the log, and examines fewer of the
   lower ones. A click, a cart and a purchase follow with probabilities that rise with the relevance to the query, the shopper's
   preference and the product's quality. The query decides the type, and what it names is mostly bought; within that preference has the
   largest effect on habitual shoppers. Nobody returns to a product from memory.
   In "cascade" (`cascade`) shoppers read from the top down and stop when they have enough; interest is the product of fit and taste
   (`cascade_taste`); an earlier model orders pages and shows more of what was clicked (`learned_pages`); products run out of stock
   (`stock`); and what was bought is bought again, or completed by accessories (`purchase_memory`).
5. *The oracle* (`oracle`) ranks by the true probabilities: the upper bound for every model.

**The storefronts of other locales** (`locales`) have a simpler log, from which the product type of a query can be learned. 27 locales in
12 languages have their own nouns for every type; "pants" are underwear in Britain and trousers in America (`dialect_traps`). Queries
follow the word order and the agreement of their language, with its accents, plain letters and typing errors. 86% of clicks go to the
target type; there are no impressions, and shoppers have no preferences. Volumes are unequal: two locales have half of the searches, half
of the locales 0.3% each. Prices, brands and products are those of the one catalogue. The English of the catalogue and of the shopping log
is that of en-US.

Shoppers and intents follow from the seed and the session's number, so the truth about an event can be recovered from its id. The same
sizes and seed give the same log; a longer log is not the continuation of a shorter one.
"""

from models.sample_store.families import FAMILIES, ParametersError, parameters_file, parameters_of, read_parameters
from models.sample_store.latents import LatentColumns, ProductLatent
from models.sample_store.locales import (
    MAIN_LOCALE,
    DialectTrap,
    StorefrontLog,
    StorefrontParameters,
    StorefrontSearch,
    all_locales,
    default_volumes,
    dialect_traps,
)
from models.sample_store.oracle import Oracle, OracleRanking
from models.sample_store.parameters import CascadeParameters, LogParameters, SharedParameters
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.queries import SampleQuery
from models.sample_store.simulated_log import SimulatedLog
from models.sample_store.store import CURRENCY, MAX_PRODUCTS, SAMPLE_COLUMNS, SampleStore
from models.sample_store.words import ABSENT
from models.sample_store.write_log import CATALOGUE, EVENTS, STOREFRONTS, TRUTH, write_sample_log

__all__ = [
    "ABSENT",
    "CATALOGUE",
    "CURRENCY",
    "EVENTS",
    "FAMILIES",
    "MAIN_LOCALE",
    "MAX_PRODUCTS",
    "SAMPLE_COLUMNS",
    "STOREFRONTS",
    "TRUTH",
    "CascadeParameters",
    "DialectTrap",
    "LatentColumns",
    "LogParameters",
    "Oracle",
    "OracleRanking",
    "ParametersError",
    "ProductLatent",
    "ProductType",
    "SampleQuery",
    "SampleStore",
    "SharedParameters",
    "SimulatedLog",
    "StorefrontLog",
    "StorefrontParameters",
    "StorefrontSearch",
    "all_locales",
    "default_volumes",
    "dialect_traps",
    "load_product_types",
    "parameters_file",
    "parameters_of",
    "read_parameters",
    "write_sample_log",
]
