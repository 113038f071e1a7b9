"""Tuned encoders for comparison, trained once and cached; the folder's name has a digest of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Progress
from models.bundles.source import Source
from models.events.event import EventKind
from models.text_encoder.hugging_face import PACKAGED, encoder_fingerprint
from models.text_tuning.recipe import Stage, TextRecipe


@dataclass(frozen=True, slots=True)
class Tuning:
    """One encoder to train. `click_share` keeps this share of the sessions; the number of steps stays the same."""

    name: str
    stages: tuple[Stage, ...]
    click_share: float = 1.0
    shuffled_clicks: bool = False


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training data of every encoder: a catalogue, a log, and the end of the training window."""

    source: Source
    events: Path
    before_ms: int


class Trainer:
    """Trains encoders that are not in `work` yet, so an interrupted call can be repeated and resumes."""

    def __init__(
        self, data: TrainingData, recipe: TextRecipe, work: Path, *, base: str = PACKAGED, seed: int = 0
    ) -> None:
        self._data, self._recipe, self._work, self._base, self._seed = data, recipe, work, base, seed

    def folder(self, tuning: Tuning, progress: Progress) -> Path:
        """Returns the trained encoder: a folder of sentence-transformers files."""
        base, stages = self._base, tuning.stages
        if stages == (Stage.MLM, Stage.CLICK) and tuning.click_share == 1.0:
            # The second stage continues from the encoder of the first stage, which is compared as well.
            base, stages = str(self.folder(Tuning(Stage.MLM.value, (Stage.MLM,)), progress)), (Stage.CLICK,)
        facts = [
            *(asdict(tuning), stages, encoder_fingerprint(base), asdict(self._recipe), self._seed),
            *(self._data.source.fingerprint, self._data.before_ms, _file_facts(self._data.events)),
        ]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
        folder = self._work / "models" / f"{tuning.name.replace(' ', '_').replace('/', '-')}-{key}"
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        from models.text_tuning.train_text_encoder import train_text_encoder  # imports torch, which takes seconds

        train_text_encoder(
            self._data.source,
            [self._events(tuning.click_share)],
            folder,
            self._recipe,
            stages,
            base,
            self._seed,
            lambda what, done, total: progress(f"{tuning.name}: {what}", done, total),
            before_ms=self._data.before_ms,
            shuffled_clicks=tuning.shuffled_clicks,
        )
        return folder

    def _events(self, share: float) -> Path:
        """Returns the log, or a file with the clicks, carts and purchases of a `share` of its sessions."""
        if share == 1.0:
            return self._data.events
        key = hashlib.sha256(json.dumps([_file_facts(self._data.events), share, self._seed]).encode()).hexdigest()[:12]
        path = self._work / f"events-{key}.parquet"
        if not path.exists():
            partial = path.with_suffix(".partial")
            self._work.mkdir(parents=True, exist_ok=True)
            pq.write_table(part_of_log(pq.read_table(self._data.events), share, self._seed), partial)
            partial.replace(path)
        return path


def part_of_log(events: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """Returns the clicks, carts and purchases of `share` of the sessions. A larger share includes the sessions of a smaller one."""
    if not 0 < share <= 1:
        raise ValueError(f"share is {share} and must be above 0 and at most 1")
    kinds = events["kind"].cast(pa.string())
    engaged = events.filter(pc.not_equal(kinds, str(EventKind.IMPRESSION)))
    sessions = np.unique(np.asarray(engaged["session_id"].to_pylist(), np.str_))
    order = np.random.default_rng([seed, 0x5E]).permutation(len(sessions))
    chosen = sessions[order[: max(1, round(share * len(sessions)))]]
    return engaged.filter(
        pc.is_in(engaged["session_id"], pa.array(chosen.tolist(), events.schema.field("session_id").type))
    )


def at_full_steps(recipe: TextRecipe) -> TextRecipe:
    """Returns the recipe with its full number of click steps, however few the pairs, so that encoders differ in data, not in steps."""
    return replace(recipe, click=replace(recipe.click, epochs=1e9))


def _file_facts(path: Path) -> Sequence[tuple[str, int, int]]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
