"""The choice of a backend: OpenVINO on a CPU, PyTorch on CUDA."""

from __future__ import annotations

from pathlib import Path

from models.arrays import Floats, Ints
from models.devices import cpu_prefers_eight_bit, cuda_is_usable
from models.text_encoder.openvino_session import OpenVinoSession
from models.text_encoder.spec import EIGHT_BIT_FILE, OPENVINO_FILE, Backend, EncoderSpec


class OpenVinoBackend:
    """Runs the encoder on a CPU: in 8 bits, where the folder has such a network and the processor is fastest so, else in bf16 or floats.
    Safe to call from several threads."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        if EncoderSpec.load(folder).eight_bit_cosine and cpu_prefers_eight_bit():
            self._session = OpenVinoSession(folder / EIGHT_BIT_FILE, threads, "f32")
            self.name = "openvino cpu 8 bits"
        else:
            self._session = OpenVinoSession(folder / OPENVINO_FILE, threads)
            self.name = self._session.name

    def __call__(self, ids: Ints, mask: Ints) -> Floats:
        return self._session(ids, mask)


def load_backend(folder: Path, device: str, threads: int = 0) -> Backend:
    """Returns the backend of a device: OpenVINO for "cpu", PyTorch for "cuda"; "auto" picks CUDA if it is usable. Raises RuntimeError for
    "cuda" without PyTorch or a CUDA device."""
    if device == "auto":
        device = "cuda" if cuda_is_usable() else "cpu"
    if device == "cpu":
        return OpenVinoBackend(folder, threads)
    try:
        from models.text_encoder.torch_backend import TorchBackend
    except ImportError as error:
        raise RuntimeError(f"device '{device}' needs {error.name}: pip install 'aisle[gpu]'") from error
    if not cuda_is_usable():
        raise RuntimeError(f"device '{device}': this process sees no CUDA device; use 'auto' or 'cpu'")
    return TorchBackend(folder, device)
