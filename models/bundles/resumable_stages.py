"""The stages of a long work, each done once: what is finished is kept beside a mark that holds the hash of what it was made of."""

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
    """Get one from `resumable_stages`."""

    def __init__(self, state: WorkFolder, progress: Progress) -> None:
        self._folder, self._state, self._progress = state.folder, state, progress
        self._keys: dict[str, str] = {}

    def run(self, name: str, made_of: object, make: Callable[[Path, Progress], dict[str, Any] | None]) -> Path:
        """The folder of stage `name`, which is made unless it was, of the same things, by this Aisle.

        `made_of` is anything that JSON can say: recipe, seed, hashes of the inputs, `key_of` of the stages that it goes on from. `make`
        writes the folder that it is given, which is not there, and may return facts to keep. Interrupted, it is called again with the
        same folder, and what it left beside it is there.
        """
        folder = self._folder / name
        made_by = [importlib.metadata.version("aisle"), made_of]
        key = self._keys[name] = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
        mark = self._mark(name)
        if mark.get("key") == key and mark.get("done") and folder.exists():
            return folder
        spent = mark.get("seconds", 0.0) if mark.get("key") == key else 0.0  # before an interruption
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        facts: dict[str, Any] | None = None
        done = False
        try:
            self._keep(name, key, spent, False, None)
            facts = make(folder, lambda what, made, total: self._progress(f"{name}: {what}", made, total))
            done = True
        finally:
            self._keep(name, key, spent + time.monotonic() - started, done, facts)
        return folder

    def key_of(self, name: str) -> str:
        """Of a stage that was run; changes with all that it was made of."""
        return self._keys[name]

    def seconds(self, name: str) -> float:
        """That it took, also before interruptions (but those by SIGKILL)."""
        return float(self._mark(name)["seconds"])

    def facts(self, name: str) -> dict[str, Any]:
        """What `make` returned."""
        return dict(self._mark(name).get("facts") or {})

    def _mark(self, name: str) -> dict[str, Any]:
        return dict(self._state.values.get("stages", {}).get(name, {}))

    def _keep(self, name: str, key: str, seconds: float, done: bool, facts: dict[str, Any] | None) -> None:
        marks = self._state.values.setdefault("stages", {})
        marks[name] = {"key": key, "seconds": round(seconds, 1), "done": done, "facts": facts}
        self._state.save()


@contextmanager
def resumable_stages(folder: Path, progress: Progress) -> Iterator[ResumableStages]:
    """Held against another process. Raises BundleError where one is at work there, or the folder holds something else."""
    with open_work_folder(folder, "kept stages") as state:
        yield ResumableStages(state, progress)
