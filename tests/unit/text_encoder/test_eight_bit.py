"""The network in 8 bits: close to that in floats, left out where it is not, and used where the processor is faster so."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.text_encoder import backends, quantize
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED
from models.text_encoder.quantize import add_eight_bit
from models.text_encoder.spec import (
    EIGHT_BIT_COSINE,
    EIGHT_BIT_FILE,
    SAME_VECTOR_COSINE,
    EncoderError,
    EncoderSpec,
    Text,
)

WORDS = [
    "red",
    "velvet",
    "sofa",
    "oak",
    "bed",
    "lamp",
    "women's",
    "running",
    "shoes",
    "usb",
    "c",
    "charger",
    "65w",
    "stainless",
    "steel",
    "kettle",
    "café",
    "2",
    "seater",
    "with",
    "storage",
]


def some_texts(count: int, seed: int) -> list[Text]:
    rng = random.Random(seed)
    return [
        Text(" ".join(rng.choices(WORDS, k=rng.randint(1, 20))), "product" if number % 2 else "query")
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("eight_bit") / "encoder"
    try:
        export_encoder(PACKAGED, folder)
    except EncoderError as error:
        pytest.skip(str(error))
    add_eight_bit(folder, some_texts(150, seed=0))
    yield folder
    shutil.rmtree(folder)


def encoder_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *, prefers_eight_bit: bool) -> TextEncoder:
    monkeypatch.setattr(backends, "cpu_prefers_eight_bit", lambda: prefers_eight_bit)
    return TextEncoder(folder, "cpu")


def test_vectors_of_unseen_texts_are_close_whatever_they_are_batched_with(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = some_texts(100, seed=1)
    floats = encoder_of(minilm, monkeypatch, prefers_eight_bit=False)
    eight_bit = encoder_of(minilm, monkeypatch, prefers_eight_bit=True)
    assert eight_bit.backend.name == "openvino cpu 8 bits" != floats.backend.name
    vectors = eight_bit.encode(texts)
    assert (vectors * floats.encode(texts)).sum(1).min() >= EIGHT_BIT_COSINE
    alone = [eight_bit.encode([text])[0] for text in texts]
    assert min(float(vector @ one) for vector, one in zip(vectors, alone, strict=True)) >= SAME_VECTOR_COSINE


def test_the_spec_tells_the_lowest_cosine(minilm: Path) -> None:
    assert EIGHT_BIT_COSINE <= EncoderSpec.load(minilm).eight_bit_cosine < 1


@pytest.mark.parametrize("texts", [[], some_texts(30, seed=2)])
def test_a_network_that_is_not_wanted_or_not_close_enough_is_left_out(
    minilm: Path, tmp_path: Path, texts: list[Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(minilm, tmp_path / "encoder")
    monkeypatch.setattr(quantize, "EIGHT_BIT_COSINE", 0.99999)
    assert add_eight_bit(folder, texts).eight_bit_cosine == 0
    assert not list(folder.glob(f"{Path(EIGHT_BIT_FILE).stem}*"))
    assert encoder_of(folder, monkeypatch, prefers_eight_bit=True).backend.name != "openvino cpu 8 bits"


def test_a_small_network_stays_in_floats(exported_encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported_encoder, tmp_path / "encoder")
    assert add_eight_bit(folder, some_texts(30, seed=3)).eight_bit_cosine == 0


def test_a_copied_encoder_keeps_it(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_encoder(str(minilm), tmp_path / "copy")
    assert encoder_of(tmp_path / "copy", monkeypatch, prefers_eight_bit=True).backend.name == "openvino cpu 8 bits"
