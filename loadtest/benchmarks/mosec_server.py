"""The same text encoder served by mosec, a peer: one worker, batches of up to 32, everything else by its defaults.

A query is the body of a POST to /inference, and its vector's float32 bytes are the answer.

    python -m loadtest.benchmarks.mosec_server bundles/sample 9200
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mosec import Server, Worker

from models.bundles.bundle import Bundle
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.compute.text_encoder import CPU_BATCH_TOKENS

BUNDLE = "AISLE_MOSEC_BUNDLE"  # mosec makes its worker in another process, without arguments
MAX_BATCH = 32


class QueryEncoder(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(Path(os.environ[BUNDLE]))), "cpu")
        self._encoder.warm_up(CPU_BATCH_TOKENS)

    def deserialize(self, data: bytes) -> Text:
        return Text(data.decode())

    def forward(self, data: Sequence[Text]) -> list[bytes]:
        return [vector.tobytes() for vector in self._encoder.encode(data)]

    def serialize(self, data: bytes) -> bytes:
        return data


def run(bundle: str, port: str) -> None:
    """Serves until SIGTERM."""
    os.environ.update({BUNDLE: bundle, "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PORT": port, "MOSEC_LOG_LEVEL": "warning"})
    server = Server()
    server.append_worker(QueryEncoder, max_batch_size=MAX_BATCH)
    server.run()


if __name__ == "__main__":
    run(*sys.argv[1:])
