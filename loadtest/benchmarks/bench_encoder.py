"""The text encoder against the bare model call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np

from loadtest.benchmarks.service import bundle_queries
from loadtest.benchmarks.setup import Setup, ratios
from models.bundles.bundle import Bundle
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import PaddedBatch, TextEncoder
from models.text_encoder.spec import Text


def bench_encoder(setup: Setup) -> None:
    """The encoder from text to vectors, against the bare model call on the same tokens, ready and padded."""
    encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(setup.bundle)), "auto")
    queries = bundle_queries(setup.bundle, 2000)
    rng = np.random.default_rng(0)
    for batch in (1, 8, 32):
        texts, bare = [], []
        for number in range(setup.rounds):
            setup.say(f"batch {batch}, round {number + 1}")
            groups = [[Text(queries[i]) for i in rng.integers(0, len(queries), batch)] for _ in range(64)]
            ready = [encoder.prepare(group) for group in groups]
            for b in [batch for prepared in ready for batch in prepared]:
                encoder.backend(b.ids, b.mask)  # both sides run with shapes that were seen
            texts.append(_rate(functools.partial(_encode_one, encoder, groups), batch, setup.seconds / 2))
            bare.append(_rate(functools.partial(_run_one, encoder, ready), batch, setup.seconds / 2))
        add = setup.figures.add
        add("encoder", f"texts to vectors, batch {batch}", "queries/s", texts, note=encoder.backend.name)
        add("encoder", f"bare model call, batch {batch}", "queries/s", bare)
        add("encoder", f"encoder / bare, batch {batch}", "ratio", ratios(texts, bare))


def _encode_one(encoder: TextEncoder, groups: Sequence[Sequence[Text]], number: int) -> None:
    encoder.encode(groups[number % len(groups)])


def _run_one(encoder: TextEncoder, groups: Sequence[Sequence[PaddedBatch]], number: int) -> None:
    for batch in groups[number % len(groups)]:
        encoder.backend(batch.ids, batch.mask)


def _rate(call: Callable[[int], object], items: int, seconds: float) -> float:
    """Items a second of `call`, which does `items` of them."""
    number, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        call(number)
        number += 1
    return number * items / (time.perf_counter() - started)
