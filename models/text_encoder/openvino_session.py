"""A network in OpenVINO's format, run on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.devices import cpu_computes_bf16


def read_network(model: Path) -> None:
    """Reads a network without compiling it. Raises RuntimeError if it is damaged."""
    import openvino

    openvino.Core().read_model(model)


class OpenVinoSession:
    """A compiled network. `threads` 0 uses all cores. Safe to call from several threads."""

    def __init__(self, model: Path, threads: int = 0, precision: Literal["auto", "f32"] = "auto") -> None:
        """`precision` is that of what the network does not say: "auto" is bf16 where the processor computes in it."""
        import openvino

        native = precision == "auto" and cpu_computes_bf16()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if native else "f32",
            # Several replicas on one machine would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
            # Of activations beside weights of 8 bits: 32 in a row share a scale.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._model = openvino.Core().compile_model(model, "CPU", settings)
        self._local = threading.local()
        self.name = f"openvino cpu {'bf16' if native else 'fp32'}"

    def __call__(self, *inputs: npt.NDArray[Any]) -> Floats:
        """Returns the first output, for inputs in the network's order."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        outputs = request.infer(list(inputs), share_inputs=True)
        return np.array(outputs[0], np.float32)
