"""The sample store: a synthetic shop of 1 to 10,000,000 products, for trying, testing and measuring.

**All of it is simulated.** Products, brands, prices and queries were made up here; nothing measured on them says how
well search works for real shoppers.

The model, from the product's number and the seed alone (splitmix64, integers only, so any slice can be made anywhere):

1. A product has a *type* (97 in 11 departments, each with a share), and by it a *brand* that sells in the department
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
"""

from models.sample_store.generate import CURRENCY, MAX_PRODUCTS, SAMPLE_COLUMNS, SampleStore
from models.sample_store.hashing import Draws
from models.sample_store.latents import ABSENT, LatentColumns, ProductLatent
from models.sample_store.queries import SampleQuery, write_query

__all__ = [
    "ABSENT",
    "CURRENCY",
    "MAX_PRODUCTS",
    "SAMPLE_COLUMNS",
    "Draws",
    "LatentColumns",
    "ProductLatent",
    "SampleQuery",
    "SampleStore",
    "write_query",
]
