"""Reports on text encoders: vectors are kept, figures are labelled, and what cannot be is refused. No encoder is loaded here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from models.evaluation.page import write_sections
from models.evaluation.run_facts import RunFacts
from models.events.event import EVENT_SCHEMA
from models.sample_store import SampleStore
from models.studies.text_encoder.embedders import VectorCache, unit
from models.studies.text_encoder.evaluate_judged import METHOD, judged_figures, named
from models.studies.text_encoder.evaluate_text_encoder import TextEncoderEvaluation, tunings_of
from models.studies.text_encoder.judged_set import JudgedSet
from models.studies.text_encoder.known_items import known_items
from models.studies.text_encoder.tuned_encoders import part_of_log
from models.text_tuning.recipe import Stage, Variant


class Words:
    """Each word is a direction of its own; `keeps` says how much of a text it reads."""

    def __init__(self, name: str, keeps: int) -> None:
        self.name, self.fingerprint, self._keeps = name, f"words {keeps}", keeps
        self.num_products = 0

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = np.zeros((len(texts), 256))
        for row, text in enumerate(texts):
            for word in text.lower().split()[: self._keeps]:
                vectors[row, hashlib.sha256(word.encode()).digest()[0]] += 1
        return unit(vectors)

    def embed_products(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.num_products += len(texts)
        return self.embed_queries(texts)


@pytest.fixture(scope="module")
def items() -> JudgedSet:
    return known_items(list(SampleStore(300, 0).products()), num_queries=120)


def test_vectors_are_computed_once_and_are_the_same_when_read_again(tmp_path: Path) -> None:
    words = Words("words", 99)
    cache = VectorCache(tmp_path)
    made = cache.product_vectors(words, ["red sofa", "lamp"], lambda *_: None)
    again = cache.product_vectors(words, ["red sofa", "lamp"], lambda *_: None)
    assert np.array_equal(made, again)
    assert words.num_products == 2
    assert made.dtype == np.float32
    cache.product_vectors(words, ["red sofa", "lamps"], lambda *_: None)
    cache.product_vectors(Words("words", 3), ["red sofa", "lamp"], lambda *_: None)
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_vectors_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    class Broken(Words):
        def embed_products(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            return np.full((len(texts), 2), np.nan, np.float32)

    with pytest.raises(ValueError, match="broken returned vectors"):
        VectorCache(tmp_path).product_vectors(Broken("broken", 1), ["a"], lambda *_: None)


def test_the_report_holds_both_encoders_their_difference_and_the_protocol(tmp_path: Path, items: JudgedSet) -> None:
    found = judged_figures([Words("two words", 2), Words("all words", 99)], items, tmp_path / "work", lambda *_: None)
    facts = RunFacts.of_this_run("Encoders", simulated=True, command="", data={})
    page = write_sections(tmp_path, facts, found.finding(), found.sections(), METHOD).read_text(encoding="utf-8")
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    means, differences = values["sections"][0]["tables"]
    assert [name for name, _ in means["rows"]] == ["two words", "all words", "BM25"]
    assert [name for name, _ in differences["rows"]] == ["all words", "BM25"]
    assert differences["rows"][0][1][0]["low"] > 0
    assert "no shopper typed them" in page
    assert "two words 0." in found.finding()
    assert "(simulated)" in page
    assert any("recipe" in section["title"] for section in values["sections"])


def test_encoders_of_one_name_are_refused() -> None:
    assert named(["minilm", "/models/mine"]) == [("MiniLM", "minilm"), ("mine", "/models/mine")]
    with pytest.raises(ValueError, match="mine is repeated"):
        named(["/a/mine", "/b/mine"])
    with pytest.raises(ValueError, match="at least one"):
        named([])


def test_what_is_trained_follows_from_the_variants() -> None:
    everything = tunings_of(TextEncoderEvaluation())
    assert [one.name for one in everything[:3]] == ["mlm", "click", "mlm+click"]
    assert [one.shuffled_clicks for one in everything].count(True) == 1
    assert [one.click_share for one in everything[4:]] == [1 / 16, 1 / 4]
    assert [one.stages for one in tunings_of(TextEncoderEvaluation(variants=(Variant.RAW, Variant.MLM)))] == [
        (Stage.MLM,)
    ]


def test_a_part_of_the_log_holds_whole_sessions_without_impressions_and_the_smaller_is_in_the_larger() -> None:
    rows = [
        {"id": f"{session}-{kind}", "session_id": f"s{session}", "kind": kind, "locale": "en", "price_minor": None}
        for session in range(40)
        for kind in ("impression", "click", "purchase")
    ]
    columns = {name: [row.get(name) for row in rows] for name in ("id", "session_id", "kind", "locale")}
    events = pa.table({**columns}).cast(
        pa.schema([EVENT_SCHEMA.field(name) for name in ("id", "session_id", "kind", "locale")])
    )
    quarter, half = (set(part_of_log(events, share)["id"].to_pylist()) for share in (0.25, 0.5))
    assert len(quarter) == 20
    assert quarter < half
    assert not any("impression" in event for event in half)
    with pytest.raises(ValueError, match="share is 0"):
        part_of_log(events, 0)
