"""The vector index: latency, recall against exact search, and memory."""

from __future__ import annotations

import numpy as np

from loadtest.benchmarks.jittered_vectors import jitter
from loadtest.benchmarks.service import bundle_queries
from loadtest.benchmarks.setup import Setup
from models.bundles.bundle import Bundle
from models.index.spec import IndexSpec
from models.index.tuner import IndexTarget, p50_ms, recall_of, tune
from models.index.vector_index import VectorIndex
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text

INDEX_SIZES = (45_000, 200_000, 1_000_000)


def bench_index(setup: Setup) -> None:
    """Latency of one query on one thread, recall and memory, against exact search, on real vectors jittered to each size."""
    if setup.vectors:
        real = np.load(setup.vectors).astype(np.float32)
        source = setup.vectors.name
    else:
        real = np.asarray(Bundle(setup.bundle).vectors(), np.float32)
        source = f"{setup.bundle.name}'s vectors"
    rng = np.random.default_rng(0)
    encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(setup.bundle)), "auto")
    short = encoder.encode([Text(query) for query in bundle_queries(setup.bundle, 300)])
    for size in (5_000, 10_000) if setup.quick else INDEX_SIZES:
        setup.say(f"{size:,} vectors: jitter")
        grown = jitter(real, size + 300, seed=1)
        held = rng.permutation(len(grown))[:300]
        kept = np.setdiff1d(np.arange(len(grown)), held)
        vectors, near = grown[kept], grown[held].astype(np.float32)
        queries = np.concatenate([near, short])
        exact = VectorIndex.build(vectors, IndexSpec("exact"))
        report = tune(vectors, queries, IndexTarget(recall=0.95), lambda stage, _done, _total: setup.say(stage))
        truth = exact.search(near, 100, num_threads=2)
        found = report.index.search(near, 100)
        exact_ms, index_ms = [], []
        for _ in range(setup.rounds):
            exact_ms.append(p50_ms(exact, near, 100))
            index_ms.append(p50_ms(report.index, near, 100))
        add, label = setup.figures.add, f"{size // 1000:,}k"
        spec = report.chosen.spec
        kind = spec.kind if spec.kind == "exact" else f"ivf, {spec.num_lists} lists, margin {spec.margin:g}"
        add(
            "index",
            f"{label}: exact, p50",
            "ms",
            exact_ms,
            note=f"{exact.bytes_per_product:.0f} bytes a product; {source}",
        )
        add("index", f"{label}: tuned, p50", "ms", index_ms, goal="< 1" if size == max(INDEX_SIZES) else "", note=kind)
        add("index", f"{label}: recall@100 of product vectors", "share", [recall_of(found, truth)], goal=">= 0.95")
        short_truth = exact.search(short, 100, num_threads=2)
        add(
            "index",
            f"{label}: recall@100 of short queries",
            "share",
            [recall_of(report.index.search(short, 100), short_truth)],
        )
        add(
            "index",
            f"{label}: memory",
            "bytes/product",
            [report.chosen.bytes_per_product],
            note=f"built in {report.build_s:.0f} s",
        )
