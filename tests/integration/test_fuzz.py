"""Ten thousand random calls, most of them wrong in some way: each is answered, none harms the service or another call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.benchmarks.service import served
from tests.fuzz.run import METHODS, Service

CALLS = 10_000
SEED = 20_261_129
CONFIG = """
[shoppers]
store = "sqlite"
path = "{folder}/events.db"
[log]
requests = "failed"
"""


@pytest.mark.timeout(900)  # the bundle of all models is built first
async def test_random_calls_find_no_fault(ranked_folder: Path, tmp_path: Path) -> None:
    """To repeat a call that is named here: `aisle serve --bundle FOLDER`, and python -m tests.fuzz --seed SEED --only NUMBER."""
    with served(ranked_folder, CONFIG.format(folder=tmp_path)) as running:
        service = Service(running.address)
        report = await service.run(SEED, range(CALLS))
        await service.close()
        # Not `splitlines`: a text of a caller may hold other ends of lines.
        lines = [json.loads(line) for line in running.log.read_text().split("\n") if line.startswith("{")]
    faults = [f"call {fault.number} of seed {SEED}: {fault.what}" for fault in report.faults]
    assert faults == [], f"against the bundle {ranked_folder}"
    assert report.num_calls == CALLS
    assert [line for line in lines if line["level"] == "error"] == []
    # Otherwise the calls would be refused at the door and test nothing behind it.
    answered = {name for name, code in report.by_method if code == "OK"}
    assert {method.name for method in METHODS} - answered == {"Classify"}, "which this bundle does not serve"
