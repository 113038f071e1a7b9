"""Which devices this process can compute on. Nothing here imports torch or OpenVINO before it must."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from models.errors import TrainingError


def cuda_is_usable() -> bool:
    """Whether this process sees a CUDA device through PyTorch. Cheap where there is none."""
    if not Path("/dev/nvidiactl").exists() and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@cache
def cpu_computes_bf16() -> bool:
    """Whether the processor has bf16 instructions that OpenVINO uses; other processors emulate bf16, slower than fp32."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def cpu_prefers_eight_bit() -> bool:
    """Whether the processor multiplies 8-bit numbers (VNNI) faster than floats. With AMX, bf16 was never compared: it stays."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_vnni", "avx_vnni"}) and "amx_bf16" not in flags


def check_training_device(device: str) -> None:
    """Raises TrainingError for any device but "cpu" and "cuda", and for "cuda" if PyTorch sees no CUDA device."""
    if device not in ("cpu", "cuda"):
        raise TrainingError(f"device must be cpu or cuda, not {device!r}")
    if device == "cuda":
        import torch

        if torch.cuda.is_available():
            return
        raise TrainingError("device 'cuda': this process sees no CUDA device; use cpu")
