"""The text encoder against the bare model call, and its networks against each other."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np

from loadtest.benchmarks.service import bundle_queries
from loadtest.benchmarks.setup import Setup, ratios
from models.arrays import Ints
from models.bundles.bundle import Bundle
from models.devices import cpu_computes_bf16
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import PaddedBatch, TextEncoder
from models.text_encoder.openvino_session import OpenVinoSession
from models.text_encoder.spec import EIGHT_BIT_FILE, OPENVINO_FILE, EncoderSpec, Text


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
    _bench_eight_bit(setup)


def _bench_eight_bit(setup: Setup) -> None:
    """The network in 8 bits against the same in floats, and in bf16 where the processor computes in it, all on the CPU."""
    folder = TEXT_ENCODER_PART.open(Bundle(setup.bundle))
    if not EncoderSpec.load(folder).eight_bit_cosine:
        setup.leave_out("the encoder in 8 bits, which the bundle does not hold: build it without --no-eight-bit")
        return
    sessions = {"floats": OpenVinoSession(folder / OPENVINO_FILE, precision="f32")}
    if cpu_computes_bf16():
        sessions["bf16"] = OpenVinoSession(folder / OPENVINO_FILE)
    sessions["8 bits"] = OpenVinoSession(folder / EIGHT_BIT_FILE, precision="f32")
    for batch, length in ((1, 6), (32, 6), (64, 64)):
        ids, mask = np.full((batch, length), 1000), np.ones((batch, length), np.int64)
        rates: dict[str, list[float]] = {name: [] for name in sessions}
        for number in range(setup.rounds):
            setup.say(f"{batch} texts of {length} tokens, round {number + 1}")
            for name, session in sessions.items():
                session(ids, mask)
                rates[name].append(_rate(functools.partial(_run_session, session, ids, mask), batch, setup.seconds / 4))
        for name, measured in rates.items():
            setup.figures.add("encoder", f"{batch} texts of {length} tokens, {name}", "texts/s", measured)
        for name in list(sessions)[:-1]:
            row = f"8 bits / {name}, {batch} texts of {length} tokens"
            setup.figures.add("encoder", row, "ratio", ratios(rates["8 bits"], rates[name]))


def _encode_one(encoder: TextEncoder, groups: Sequence[Sequence[Text]], number: int) -> None:
    encoder.encode(groups[number % len(groups)])


def _run_one(encoder: TextEncoder, groups: Sequence[Sequence[PaddedBatch]], number: int) -> None:
    for batch in groups[number % len(groups)]:
        encoder.backend(batch.ids, batch.mask)


def _run_session(session: OpenVinoSession, ids: Ints, mask: Ints, _: int) -> None:
    session(ids, mask)


def _rate(call: Callable[[int], object], items: int, seconds: float) -> float:
    """Items a second of `call`, which does `items` of them."""
    number, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        call(number)
        number += 1
    return number * items / (time.perf_counter() - started)
