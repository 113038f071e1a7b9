"""An exported encoder in 8 bits, for processors that multiply 8-bit numbers faster than their floats. Needs the extra `aisle[train]`.

NNCF quantises weights and activations after training. Its SmoothQuant (Xiao et al., 2023) moves outliers of activations into the weights.
The second product of each feed-forward layer has activations of a wide range: its weights alone are quantised, and OpenVINO quantises each
token's activations as they come. The lowest cosine of MiniLM over titles and descriptions of electronics, and the time of 32 queries and of
64 texts of 64 tokens (two cores of an EPYC, floats 14 and 237 ms, bf16 7.8 and 135):

| how | lowest cosine | time |
|---|---|---|
| so | .998 | 5.8 and 107 ms |
| all activations quantised by ranges seen before | .995 | 5.2 and 85 ms; judged queries lose .005 of NDCG@10 |
| ... without SmoothQuant | .982 | |
| all activations quantised as they come | .9985 | 7.5 and 154 ms |

NNCF's bias correction took twice the time and gained nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.text_encoder.encoder import TextEncoder
from models.text_encoder.openvino_session import OpenVinoSession
from models.text_encoder.spec import EIGHT_BIT_COSINE, EIGHT_BIT_FILE, OPENVINO_FILE, EncoderError, EncoderSpec, Text

# SmoothQuant's alpha. Lowest cosines of MiniLM with 0.5, 0.65 and 0.8: 0.9979, 0.9982, 0.9974 over titles and descriptions of electronics,
# 0.9968, 0.9958, 0.9930 over random words.
SMOOTHING = 0.65
MIN_WEIGHTS = (
    1_000_000  # of the network's products. Chosen, not measured: a toy gains nothing that pays for quantising it
)
JUDGE_EVERY = 3  # texts; the others calibrate


def add_eight_bit(folder: Path, texts: Sequence[Text]) -> EncoderSpec:
    """Writes the network of an exported encoder in 8 bits, calibrated on texts of the catalogue, and returns the encoder's spec.

    Its vectors of every third text are compared with those of the network in floats. `eight_bit_cosine` of the spec is the lowest cosine;
    where that is below EIGHT_BIT_COSINE, or the network is small, no network is written, and it is 0. Raises EncoderError without NNCF.
    """
    spec = dataclasses.replace(EncoderSpec.load(folder), eight_bit_cosine=0.0)
    path = folder / EIGHT_BIT_FILE
    for written in (path, path.with_suffix(".bin")):
        written.unlink(missing_ok=True)
    spec.save(folder)
    calibrating = [text for at, text in enumerate(texts) if at % JUDGE_EVERY]
    judging = list(texts[::JUDGE_EVERY])
    if calibrating and _num_weights(folder) >= MIN_WEIGHTS:
        encoder = TextEncoder(folder, "cpu")
        _quantize(folder, [(batch.ids, batch.mask) for batch in encoder.prepare(calibrating)])
        eight_bit, floats = (OpenVinoSession(network, precision="f32") for network in (path, folder / OPENVINO_FILE))
        batches = encoder.prepare(judging)
        lowest = min(
            float((eight_bit(batch.ids, batch.mask) * floats(batch.ids, batch.mask)).sum(1).min()) for batch in batches
        )
        if lowest >= EIGHT_BIT_COSINE:
            spec = dataclasses.replace(spec, eight_bit_cosine=round(lowest, 4))
            spec.save(folder)
        else:
            path.unlink()
            path.with_suffix(".bin").unlink()
    return spec


def _num_weights(folder: Path) -> int:
    """Returns how many weights the network multiplies with; the embeddings of tokens are looked up."""
    import openvino

    return sum(to * of for _, (to, of) in _products(openvino.Core().read_model(folder / OPENVINO_FILE)))


def _products(network: Any) -> list[tuple[Any, tuple[int, int]]]:
    """Returns the products of activations with weights, and the shapes (to, of) of the weights."""
    products = [node for node in network.get_ops() if node.get_type_name() == "MatMul"]
    shapes = [product.input_value(1).get_partial_shape() for product in products]
    return [
        (product, (shape[0].get_length(), shape[1].get_length()))
        for product, shape in zip(products, shapes, strict=True)
        if shape.is_static and len(shape) == 2
    ]


def _quantize(folder: Path, inputs: list[Any]) -> None:
    import openvino

    try:
        import nncf
    except ImportError as error:
        raise EncoderError(f"building needs {error.name}: pip install 'aisle[train]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    network = openvino.Core().read_model(folder / OPENVINO_FILE)
    narrowing = [product.get_friendly_name() for product, (to, of) in _products(network) if of > to]
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        network = nncf.quantize(
            network,
            nncf.Dataset(inputs),
            ignored_scope=nncf.IgnoredScope(names=narrowing),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING),
            ),
        )
        network = nncf.compress_weights(
            network, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=nncf.IgnoredScope(types=["Gather"])
        )
    openvino.save_model(network, folder / EIGHT_BIT_FILE)
