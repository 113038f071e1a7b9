"""What NVIDIA's management library says of the GPUs of this machine. Without the library, or without a GPU, it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from serving.logs import log


class Gpus:
    """`library` is the module `pynvml`, initialised; None if there is none."""

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._devices = (
            [library.nvmlDeviceGetHandleByIndex(number) for number in range(library.nvmlDeviceGetCount())]
            if library
            else []
        )

    @classmethod
    def find(cls) -> Gpus:
        try:
            import pynvml

            pynvml.nvmlInit()
            return cls(pynvml)
        except ModuleNotFoundError:
            return cls()
        except Exception as error:  # no driver
            log.debug("no metrics of GPUs", extra={"fields": {"error": str(error)}})
            return cls()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields a family for each figure. A device that does not answer is left out."""
        busy = GaugeMetricFamily("aisle_gpu_utilisation_ratio", "Share of time that a GPU computed.", labels=["gpu"])
        used = GaugeMetricFamily("aisle_gpu_memory_used_bytes", "Memory of a GPU that is in use.", labels=["gpu"])
        total = GaugeMetricFamily("aisle_gpu_memory_bytes", "Memory of a GPU.", labels=["gpu"])
        for number, device in enumerate(self._devices):
            try:
                memory = self._library.nvmlDeviceGetMemoryInfo(device)
                rates = self._library.nvmlDeviceGetUtilizationRates(device)
            except Exception as error:
                log.warning("a GPU does not answer", extra={"fields": {"gpu": number, "error": str(error)}})
                continue
            busy.add_metric([str(number)], rates.gpu / 100)
            used.add_metric([str(number)], memory.used)
            total.add_metric([str(number)], memory.total)
        yield from (busy, used, total)
