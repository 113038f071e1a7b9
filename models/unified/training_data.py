"""The training data in memory: the catalogue's inputs, the examples and the histories, from which batches are drawn."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file, save_file

from models.arrays import Codes, Floats, Progress
from models.events.errors import LogError
from models.events.kinds import CLICK
from models.products.product_table import ProductTable
from models.unified.examples import Examples
from models.unified.features import ProductFeatures, product_features
from models.unified.graph import graph_vectors
from models.unified.histories import Histories
from models.unified.history import query_words
from models.unified.light_tower import read_spec
from models.unified.load_model import load_reader, load_vocabulary
from models.unified.negatives import Categories, Engagements
from models.unified.network import CatalogueInputs
from models.unified.price_bands import PriceBands
from models.unified.query_generation import TextReader, read_products, train_query_writer
from models.unified.recipe import QueryGeneration, UnifiedRecipe
from models.unified.shopping_log import UNKNOWN, ShoppingLog
from models.unified.signals import SavedSignals
from models.unified.update import Update, turned_onto
from models.unified.vocabulary import Vocabulary, text_tokens
from models.unified.window_signals import KIND_POINTS, window_signals
from models.unified.words import Ragged, WordBook, WordHashing


@dataclass(frozen=True, slots=True)
class TrainingData:
    log: ShoppingLog
    until_ms: int  # examples, signals and pre-training use only earlier events
    bands: PriceBands
    buckets: Ragged  # of every word
    catalogue: CatalogueInputs
    crossed: tuple[CatalogueInputs, ...]  # the catalogue with the signals that each fold's examples see
    folds: Codes  # (searches,)
    queries: Ragged  # words of the log's queries
    texts: Ragged  # of histories, see `HistoryTexts`
    examples: Examples
    histories: Histories
    engaged: Engagements
    share: Floats  # (products,) share of the examples
    kin_share: Floats  # (products,) share of the examples of its category
    categories: Categories
    vocabulary: Vocabulary
    reader: TextReader | None  # None without a text block
    fingerprint: str  # of the catalogue, the log, the recipe and the seed


def prepare(
    table: ProductTable,
    log: ShoppingLog,
    recipe: UnifiedRecipe,
    seed: int,
    cache: Path,
    progress: Progress,
    device: str = "cpu",
    *,
    until_ms: int | None = None,
    update: Update | None = None,
) -> TrainingData:
    """Prepares a training on the events before `until_ms`, by default those of the recipe's `train_share`. Raises LogError if the log has
    nothing to learn from, or a locale that the model to update does not know.

    The frozen blocks (graph, text) are cached in the folder `cache`, and reused for the same catalogue, log, seed and settings.
    """
    if log.num_products != len(table):
        raise LogError(f"the log was read for {log.num_products:,} products, the catalogue has {len(table):,}")
    cache.mkdir(parents=True, exist_ok=True)
    if update is not None:
        log = log.with_locales(read_spec(update.start)["locales"])
    until_ms = log.time_at(recipe.train_share) if until_ms is None else until_ms
    known = examples = Examples.from_log(log, until_ms, recipe.impressions_per_positive, seed)
    if update is not None:
        examples = update.sample(known, seed)
    progress("read the catalogue", 0, len(table))
    book = WordBook(recipe.hashing)
    bands = PriceBands.from_products(table.products()) if update is None else PriceBands.load(update.start)
    features = product_features(table.products(), bands, book, WordHashing(bits=recipe.sizes.id_bits))
    queries = Ragged.from_rows([book.numbers(query_words(query)) for query in log.queries])
    data_key = _data_key(features, queries, log, until_ms, seed)
    # A product's signals (its clicks, the queries that led to it) contain the very clicks to be learned, and a model trained on them trusts
    # the count alone. Each fold's examples therefore see signals of the other folds' searches.
    folds = np.random.default_rng([seed, 0xF0]).integers(0, recipe.folds, len(log.search_time_ms)).astype(np.int32)
    graphs = np.zeros((1 + recipe.folds, len(table), 1), np.float32)
    if recipe.products.graph:
        progress("embed the graph", 0, None)
        graphs = _cached(
            cache / f"graph-{data_key}-{recipe.graph_dim}-{recipe.folds}.npy",
            lambda: _graphs(log, until_ms, queries, folds, recipe, seed),
        )
        if update is not None:
            former = SavedSignals(update.start).for_ids([table.id(row) for row in range(len(table))])
            graphs = turned_onto(graphs, former.graph)
    if update is None:
        asked = queries.take(_asked_before(log, until_ms))
        vocabulary = _vocabulary(book, features.words, asked, recipe.query_generation.vocabulary)
    else:
        vocabulary = load_vocabulary(update.start)
    text: npt.NDArray[np.generic] = np.zeros((len(table), 0), np.float32)
    reader: TextReader | None = None
    if recipe.products.text != "none":
        writing = recipe.query_generation
        tokens = text_tokens(features.words, book, vocabulary, writing.max_product_words)
        query_tokens = text_tokens(queries, book, vocabulary, writing.max_query_words)
        kept = cache / f"reader-{data_key}-{_digest([asdict(writing), vocabulary.words])}.safetensors"
        if update is None:
            reader = _cached_reader(kept, tokens, query_tokens, examples, writing, seed, progress, device)
        else:
            reader = load_reader(update.start, recipe, device)
        if recipe.products.text == "tuned" or reader is None:
            text = tokens
        else:
            progress("read the products' texts", 0, len(table))
            text = _cached(kept.with_suffix(".npy"), lambda: read_products(reader, tokens, device))
    positive = known.kind >= CLICK
    engaged = Engagements.from_examples(
        known.query[positive],
        known.shopper[positive],
        known.product[positive],
        len(log.queries),
        log.num_shoppers,
    )
    share = np.bincount(examples.product, minlength=len(table)) / max(len(examples), 1)
    categories = Categories.from_products(features.category, share)
    return TrainingData(
        log=log,
        until_ms=until_ms,
        bands=bands,
        buckets=book.buckets(),
        catalogue=CatalogueInputs(
            features, window_signals(log, until_ms, graphs[0], half_life_days=recipe.half_life_days), text
        ),
        crossed=tuple(
            CatalogueInputs(features, window_signals(log, until_ms, graph, folds == fold, recipe.half_life_days), text)
            for fold, graph in enumerate(graphs[1:])
        ),
        folds=folds,
        queries=queries,
        texts=Ragged.concatenate([queries, features.terms, features.tags, features.brands]),
        examples=examples,
        histories=Histories.from_log(log, recipe.history, features.brand),
        engaged=engaged,
        share=share.astype(np.float32),
        kin_share=(share / np.maximum(categories.share, 1e-12)[features.category]).astype(np.float32),
        categories=categories,
        vocabulary=vocabulary,
        reader=reader,
        fingerprint=_digest(
            [data_key, asdict(recipe), vocabulary.words, None if update is None else update.fingerprint()]
        ),
    )


def _data_key(features: ProductFeatures, queries: Ragged, log: ShoppingLog, until_ms: int, seed: int) -> str:
    """Returns a digest of the inputs of the frozen blocks."""
    digest = hashlib.sha256(json.dumps([until_ms, seed, log.queries, log.locales]).encode())
    read = (features.words.values, features.words.offsets, features.ids, features.scalars, queries.values)
    for column in (*read, log.time_ms, log.kind, log.shopper, log.query, log.product):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:16]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:16]


def _cached(path: Path, make: Callable[[], Floats]) -> Floats:
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    made = make()
    partial = path.with_name(f"{path.name}.partial.npy")
    np.save(partial, made)
    partial.replace(path)
    return made


def _cached_reader(
    path: Path,
    products: Codes,
    queries: Codes,
    examples: Examples,
    spec: QueryGeneration,
    seed: int,
    progress: Progress,
    device: str,
) -> TextReader:
    if path.exists():
        reader = TextReader(spec)
        reader.load_state_dict(load_file(path))
        return reader.to(device).eval()
    positive = examples.kind >= CLICK
    pairs = np.unique(np.stack([examples.product[positive], examples.query[positive]], axis=1), axis=0).astype(np.int64)
    reader = train_query_writer(
        products,
        queries,
        pairs,
        spec,
        seed,
        lambda done, total: progress("learn to write queries", done, total),
        device,
    )
    partial = path.with_suffix(".partial")
    save_file(reader.state_dict(), partial)
    partial.replace(path)
    return reader


def _graphs(log: ShoppingLog, until_ms: int, queries: Ragged, folds: Codes, recipe: UnifiedRecipe, seed: int) -> Floats:
    events = np.flatnonzero((log.time_ms < until_ms) & (log.query > 0) & (log.product != UNKNOWN))
    weight = np.array(KIND_POINTS)[log.kind[events]]
    fold = folds[log.search[events]]
    left_out = [fold == number for number in range(recipe.folds)]
    return graph_vectors(
        log.query[events], log.product[events], weight, queries, log.num_products, recipe.graph_dim, seed, left_out
    )


def _asked_before(log: ShoppingLog, until_ms: int) -> Codes:
    """Returns the queries that were asked before a time, each once: a vocabulary of later ones would know what is measured."""
    return np.unique(log.query[log.time_ms < until_ms])


def _vocabulary(book: WordBook, products: Ragged, queries: Ragged, size: int) -> Vocabulary:
    counts = np.bincount(products.values, minlength=len(book)) + np.bincount(queries.values, minlength=len(book))
    return Vocabulary.from_counts(
        Counter({word: int(counts[number]) for word, number in book.items() if counts[number]}), size
    )
