"""The sample store: a synthetic shop of 1 to 10,000,000 products, for trying, testing and measuring.

**All of it is simulated.** Products, brands, prices and queries were made up here; nothing measured on them says how
well search works for real shoppers.

The model, from the product's number and the seed alone (splitmix64, integers only, so any slice can be made anywhere):

1. A product has a *type* (115 in 12 departments, each with a share), and by it a *brand* that sells in the department
   (a few lead, many follow), a colour, material, style, size, feature and audience where the type has them. Half of a
   brand's products are in its own styles.
2. Its *price* is log-normal within the range of its type, moved by the brand's tier, the material and the size, and
   ends as prices do. The *price band* says where it stands among its type. 8% are out of stock.
3. *Quality* and *popularity* (Pareto, exponent 1) can be seen by no reader of the catalogue; they are for simulating
   shoppers.
4. The *seller* words it: one of five or six title shapes, a product line or a model number, a description of one or
   two sentences.
5. A *shopper* asks for it in other words: 60% of nouns are the shopper's ("couch" for sofa), as are half of the
   colours, materials and so on ("dark red" for burgundy); 5% of queries hold a typing error.

The vocabulary is in `vocabulary` and `product_types`, the draws in `latents`, the words in `wording` and `queries`.
A smaller store is the beginning of a larger one with the same seed. Changing a list changes the store: the digest in
its tests says when.

**The shopping log is simulated too**, by a model with a known truth; its numbers are in `parameters` (chosen, not measured),
and are written beside every log. It is for trying and testing what learns from logs.

1. *Shoppers* (`shoppers`): a tenth are habitual and come 14 times as often as the others; within a class activity is
   log-normal. A shopper prefers three departments, two brands in each department, two styles of each style family, two
   colours of each palette, an audience, a size and a price band. Tastes drift: the first brands and styles change once, at a
   moment within a year of the log's start, and the price band by up to one a year. Occasional shoppers feel half as much.
   Three sessions in ten are anonymous, by anyone.
2. *Searches* (`sessions`, `intents`): 1 to 6 a session, mostly for one product type; the queries of a type are those of
   `queries`, with Zipf's popularity, so that "sofa" is common and "burgundy velvet sofa" rare. Of two that come to mind a
   shopper takes the one nearer to own taste.
3. *Result pages* (`result_pages`): 24 products by a lexical ranker that knows popularity, but neither shopper nor synonyms of
   attributes. 15% of products are launched within the window and appear nowhere before. Stock is not simulated over time.
4. *Engagement* (`engagement`): a shopper sees 4 to 24 results; the log has these as impressions. A seen result is looked at
   less the lower it stands; a click, a cart and a purchase each follow from the one before with a chance that rises with
   the fit to the query, the shopper's taste and the product's quality. The query decides the type; within it habitual
   shoppers buy by taste more than by anything else. Nobody returns to a product out of memory.
5. *The oracle* (`oracle`) ranks by the true chances: no model can do better, and none knows as much.

**The storefronts of other locales are simulated as well** (`locales`), more simply: for telling which product type a query
wants where. 27 locales in 12 languages have nouns of their own for every type, by language and dialect; "pants" are
underwear in Britain and trousers in America (`dialect_traps`). Their searches are asked in the order of words and the
forms of their language, with its accents, plain letters and typing errors. A click goes to the wanted type in 86% of
cases; there are no impressions, and shoppers have no taste. Volumes are very unequal: two locales have half of the
searches, half of the locales 0.3% each. Prices, brands and products are those of the one catalogue. The English of the
catalogue and of the main log is that of en-US.

Who comes and what for follows from the seed and the session's number, so that the truth about an event can be
found again from its id. The same sizes and seed give the same log; a longer log is not the continuation of a shorter one.
"""

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
from models.sample_store.parameters import LogParameters
from models.sample_store.product_types import ProductType, load_product_types
from models.sample_store.queries import SampleQuery
from models.sample_store.shopping import ShoppingLog
from models.sample_store.store import CURRENCY, MAX_PRODUCTS, SAMPLE_COLUMNS, SampleStore
from models.sample_store.words import ABSENT
from models.sample_store.write_log import CATALOGUE, EVENTS, STOREFRONTS, TRUTH, write_sample_log

__all__ = [
    "ABSENT",
    "CATALOGUE",
    "CURRENCY",
    "EVENTS",
    "MAIN_LOCALE",
    "MAX_PRODUCTS",
    "SAMPLE_COLUMNS",
    "STOREFRONTS",
    "TRUTH",
    "DialectTrap",
    "LatentColumns",
    "LogParameters",
    "Oracle",
    "OracleRanking",
    "ProductLatent",
    "ProductType",
    "SampleQuery",
    "SampleStore",
    "ShoppingLog",
    "StorefrontLog",
    "StorefrontParameters",
    "StorefrontSearch",
    "all_locales",
    "default_volumes",
    "dialect_traps",
    "load_product_types",
    "write_sample_log",
]
