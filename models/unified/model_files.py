"""The names of the files in a model folder; `saved_model` describes them."""

from __future__ import annotations

SPEC_FILE = "spec.json"
SEARCH_FILE = "search_tower.safetensors"
PRODUCT_FILE = "product_tower.safetensors"
READER_FILE = "text_reader.safetensors"
VOCABULARY_FILE = "vocabulary.json"
VECTORS_FILE = "product_vectors.npy"
IDS_FILE = "product_ids.parquet"

FORMAT_VERSION = 2
LOCALE_WORDS = "search.query.words.weight"  # a tensor of SEARCH_FILE, see `LocaleWords`
