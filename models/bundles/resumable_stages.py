"""The stages of long work, each done once. A finished stage is kept with a hash of its inputs, and runs again when they change."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.arrays import Progress
from models.bundles.work_folder import WorkFolder, open_work_folder


class ResumableStages:
    """Runs stages in a work folder; `resumable_stages` opens one."""

    def __init__(self, work: WorkFolder, progress: Progress) -> None:
        self._folder, self._work, self._progress = work.folder, work, progress
        self._keys: dict[str, str] = {}

    def run(self, name: str, inputs: object, make: Callable[[Path, Progress], dict[str, Any] | None]) -> Path:
        """Returns the folder of stage `name`. It is made unless this Aisle made it already from the same inputs.

        `inputs` is anything that JSON can hold: recipe, seed, hashes of data, `key_of` of earlier stages. `make` creates the folder that it
        is given and may return facts to keep. An interrupted `make` is called again with the same folder, deleted; files that it left next
        to the folder are still there.
        """
        folder = self._folder / name
        keyed = [importlib.metadata.version("aisle"), inputs]
        key = self._keys[name] = hashlib.sha256(json.dumps(keyed, sort_keys=True).encode()).hexdigest()
        record = self._record(name)
        if record.get("key") == key and record.get("done") and folder.exists():
            return folder
        spent = record.get("seconds", 0.0) if record.get("key") == key else 0.0  # before an interruption
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        facts: dict[str, Any] | None = None
        done = False
        try:
            self._save(name, key, spent, False, None)
            facts = make(folder, lambda step, count, total: self._progress(f"{name}: {step}", count, total))
            done = True
        finally:
            self._save(name, key, spent + time.monotonic() - started, done, facts)
        return folder

    def key_of(self, name: str) -> str:
        """Returns the hash of the inputs of a stage that was run."""
        return self._keys[name]

    def seconds(self, name: str) -> float:
        """Returns the duration of a stage, with the time before interruptions except by SIGKILL; 0 for one that never ran."""
        return float(self._record(name).get("seconds", 0.0))

    def facts(self, name: str) -> dict[str, Any]:
        """Returns the facts that `make` returned."""
        return dict(self._record(name).get("facts") or {})

    def _record(self, name: str) -> dict[str, Any]:
        return dict(self._work.values.get("stages", {}).get(name, {}))

    def _save(self, name: str, key: str, seconds: float, done: bool, facts: dict[str, Any] | None) -> None:
        records = self._work.values.setdefault("stages", {})
        records[name] = {"key": key, "seconds": round(seconds, 1), "done": done, "facts": facts}
        self._work.save()


@contextmanager
def resumable_stages(folder: Path, progress: Progress) -> Iterator[ResumableStages]:
    """Opens stages in a folder, which no other process can open until the block ends. Raises BundleError while another does, and for a
    folder of something else."""
    with open_work_folder(folder, "kept stages") as work:
        yield ResumableStages(work, progress)
