"""The encoder: one vector a text, in order, whatever else is in the batch."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.devices import cuda_is_usable
from models.text_encoder.backends import load_backend
from models.text_encoder.encoder import MAX_CALL_TOKENS, TextEncoder, group_by_length, matryoshka_prefix
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED
from models.text_encoder.spec import SAME_VECTOR_COSINE, EncoderError, EncoderSpec, Text


@pytest.fixture(scope="module")
def encoder(exported_encoder: Path) -> TextEncoder:
    return TextEncoder(exported_encoder, "cpu")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The packaged encoder, where the real numbers matter."""
    folder = tmp_path_factory.mktemp("minilm") / "encoder"
    try:
        export_encoder(PACKAGED, folder)
    except EncoderError as error:
        pytest.skip(str(error))
    yield folder
    shutil.rmtree(folder)


def with_spec(folder: Path, copy: Path, **changes: object) -> TextEncoder:
    shutil.copytree(folder, copy)
    dataclasses.replace(EncoderSpec.load(copy), **changes).save(copy)  # type: ignore[arg-type]
    return TextEncoder(copy, "cpu")


def some_texts(count: int) -> list[Text]:
    rng = random.Random(0)
    words = ("sofa", "velvet", "red", "x1", "lamp", "café", "沙发")
    return [
        Text(" ".join(rng.choices(words, k=rng.randint(1, 9))), "product" if rng.random() < 0.5 else "query")
        for _ in range(count)
    ]


def count_tokens(encoder: TextEncoder, texts: list[Text]) -> list[int]:
    lengths = {
        row: length
        for batch in encoder.prepare(texts)
        for row, length in zip(batch.rows, batch.mask.sum(1), strict=True)
    }
    return [int(lengths[row]) for row in range(len(texts))]


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum(1).min())


def test_a_text_has_one_vector_whatever_its_batch_and_place(encoder: TextEncoder) -> None:
    texts = some_texts(60)
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    backwards = encoder.encode(texts[::-1])[::-1]
    assert together.shape == (60, 32)
    assert lowest_cosine(together, alone) >= SAME_VECTOR_COSINE
    assert lowest_cosine(together, backwards) >= SAME_VECTOR_COSINE
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-3)
    mixed_up = (together @ alone.T).argmax(1)
    different = [n for n in range(60) if not np.allclose(alone[mixed_up[n]], alone[n], atol=0.02)]
    assert not different


def test_different_texts_have_different_vectors(encoder: TextEncoder) -> None:
    """The control of the test above."""
    vectors = encoder.encode([Text("sofa"), Text("lamp 1234")])
    assert float(vectors[0] @ vectors[1]) < SAME_VECTOR_COSINE


def test_no_text_makes_no_vector(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 32)
    assert count_tokens(encoder, []) == []


@pytest.mark.parametrize("text", ["", " ", "\u200b", "沙发", "\x00", "🛋️" * 50, "a" * 100_000], ids=ascii)
def test_every_text_gets_a_unit_vector(encoder: TextEncoder, text: str) -> None:
    assert np.linalg.norm(encoder.encode([Text(text[:1000])])) == pytest.approx(1, abs=1e-3)


def test_text_past_the_limit_of_its_side_has_no_effect(exported_encoder: Path, tmp_path: Path) -> None:
    encoder = with_spec(exported_encoder, tmp_path / "e", max_query_tokens=5, max_product_tokens=9)
    long = " ".join("sofa" for _ in range(50))
    assert count_tokens(encoder, [Text(long), Text(long, "product"), Text("sofa")]) == [5, 9, 3]
    vectors = encoder.encode([Text(long), Text("sofa sofa sofa"), Text("sofa sofa")])
    assert lowest_cosine(vectors[:1], vectors[1:2]) >= SAME_VECTOR_COSINE
    assert lowest_cosine(vectors[:1], vectors[2:]) < SAME_VECTOR_COSINE


def test_each_side_gets_its_prefix(exported_encoder: Path, tmp_path: Path) -> None:
    plain = TextEncoder(exported_encoder, "cpu")
    prefixed = with_spec(exported_encoder, tmp_path / "e", query_prefix="query: ", product_prefix="passage: ")
    asked = [Text("sofa"), Text("sofa", "product"), Text("lamp")]
    expected = [Text("query: sofa"), Text("passage: sofa", "product"), Text("query: lamp")]
    assert lowest_cosine(prefixed.encode(asked), plain.encode(expected)) >= SAME_VECTOR_COSINE
    assert count_tokens(prefixed, asked) == count_tokens(plain, expected)


def test_threads_do_not_mix_their_vectors_up(encoder: TextEncoder) -> None:
    texts = some_texts(40)
    alone = encoder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(encoder.encode, [texts] * 8):
            assert lowest_cosine(vectors, alone) >= SAME_VECTOR_COSINE


@given(st.lists(st.integers(0, 600), max_size=80))
def test_groups_hold_each_row_once_and_stay_small(lengths: list[int]) -> None:
    groups = group_by_length(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[row] for row in group)
        assert len(group) == 1 or len(group) * longest <= MAX_CALL_TOKENS


def test_a_long_text_does_not_pad_the_short_ones() -> None:
    assert sorted(map(sorted, group_by_length([4, 5, 128, 4]))) == [[0, 1, 3], [2]]


def test_a_prefix_of_a_vector_has_unit_length_again() -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    short = matryoshka_prefix(vectors, 16)
    assert (short.shape, short.dtype) == ((4, 16), np.float32)
    assert np.linalg.norm(short, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.allclose(short, vectors[:, :16] / np.linalg.norm(vectors[:, :16], axis=1, keepdims=True))
    assert matryoshka_prefix(vectors, 32) is vectors
    assert np.isfinite(matryoshka_prefix(np.eye(32, dtype=np.float32)[20:21], 16)).all()


class TestExport:
    def test_the_torch_form_gives_the_same_vectors(self, encoder: TextEncoder, exported_encoder: Path) -> None:
        from models.text_encoder.torch_backend import TorchBackend

        self.compare(encoder, TorchBackend(exported_encoder, "cpu"), some_texts(30))

    def test_the_packaged_encoder_keeps_the_numerical_contract(self, minilm: Path) -> None:
        from models.text_encoder.torch_backend import TorchBackend

        texts = [Text(f"{text.text} {n}", text.side) for n, text in enumerate(some_texts(40))]
        texts += [Text("x"), Text("red velvet sofa " * 60, "product")]
        encoder = TextEncoder(minilm, "cpu")
        self.compare(encoder, TorchBackend(minilm, "cpu"), texts)
        sofa, couch, drill = encoder.encode([Text("sofa"), Text("couch"), Text("cordless drill")])
        assert float(sofa @ couch) > 0.7 > float(sofa @ drill)

    @pytest.mark.gpu
    def test_cuda_keeps_the_numerical_contract(self, minilm: Path) -> None:
        from models.text_encoder.torch_backend import TorchBackend

        reference = TextEncoder(minilm, "cpu")
        reference.backend = TorchBackend(minilm, "cpu")
        texts = [*some_texts(300), Text("x"), Text("red velvet sofa " * 60, "product")]
        assert lowest_cosine(TextEncoder(minilm, "cuda").encode(texts), reference.encode(texts)) >= SAME_VECTOR_COSINE

    @staticmethod
    def compare(encoder: TextEncoder, backend: Callable[..., np.ndarray], texts: list[Text]) -> None:
        for batch in encoder.prepare(texts):
            assert lowest_cosine(encoder.backend(batch.ids, batch.mask), backend(batch.ids, batch.mask)) >= (
                SAME_VECTOR_COSINE
            )

    def test_a_tokenizer_without_a_padding_token(
        self, make_encoder: Callable[..., Path], encoder: TextEncoder, tmp_path: Path
    ) -> None:
        export_encoder(str(make_encoder(tmp_path / "unpadded", pad_token=None)), tmp_path / "e")
        texts = some_texts(20)
        assert lowest_cosine(TextEncoder(tmp_path / "e", "cpu").encode(texts), encoder.encode(texts)) >= (
            SAME_VECTOR_COSINE
        )

    def test_limits_stay_within_the_positions_of_the_model(self, exported_encoder: Path) -> None:
        spec = EncoderSpec.load(exported_encoder)
        assert (spec.dim, spec.dimensions) == (32, (32,))
        assert (spec.max_query_tokens, spec.max_product_tokens) == (64, 64)

    def test_prompts_of_the_model_become_prefixes_and_outlive_a_second_export(
        self, tiny_encoder: Path, tmp_path: Path
    ) -> None:
        source = Path(shutil.copytree(tiny_encoder, tmp_path / "e5"))
        prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
        (source / "config_sentence_transformers.json").write_text(json.dumps(prompts))
        spec = export_encoder(str(source), tmp_path / "first")
        assert (spec.model, spec.query_prefix, spec.product_prefix) == ("e5", "query: ", "passage: ")
        again = export_encoder(str(tmp_path / "first"), tmp_path / "second", dimensions=(8,), max_query_tokens=10)
        assert again == dataclasses.replace(spec, dimensions=(8, 32), max_query_tokens=10)
        assert EncoderSpec.load(tmp_path / "second") == again

    @pytest.mark.parametrize(
        ("file", "content", "says"),
        [
            ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by .*max_tokens.* mean and cls"),
            ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "modules .'Dense'.; Aisle serves"),
            ("config.json", {"model_type": "no-such-model"}, "cannot be loaded"),
            ("config.json", {}, "cannot be loaded"),
        ],
    )
    def test_an_encoder_that_cannot_be_served_is_refused(
        self, tiny_encoder: Path, tmp_path: Path, file: str, content: object, says: str
    ) -> None:
        source = Path(shutil.copytree(tiny_encoder, tmp_path / "source"))
        (source / file).parent.mkdir(exist_ok=True)
        (source / file).write_text(json.dumps(content))
        with pytest.raises(EncoderError, match=says):
            export_encoder(str(source), tmp_path / "e")

    def test_pickled_weights_are_not_read(self, tiny_encoder: Path, tmp_path: Path) -> None:
        source = Path(shutil.copytree(tiny_encoder, tmp_path / "source"))
        (source / "model.safetensors").rename(source / "pytorch_model.bin")
        with pytest.raises(EncoderError, match="cannot be loaded"):
            export_encoder(str(source), tmp_path / "e")

    @pytest.mark.parametrize("name", ["", "/no/such", "./no/such", "~/no/such"])
    def test_an_encoder_that_is_not_there_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(EncoderError, match="there is no directory"):
            export_encoder(name, tmp_path / "e")

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(EncoderError, match="is not a Hugging Face model"):
            export_encoder(str(tmp_path / "empty"), tmp_path / "e")


@pytest.mark.skipif(cuda_is_usable(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_refused_and_auto_is_the_cpu(exported_encoder: Path) -> None:
    with pytest.raises(RuntimeError, match="'cuda'.*no CUDA device"):
        load_backend(exported_encoder, "cuda")
    assert load_backend(exported_encoder, "auto").name.startswith("openvino cpu")
