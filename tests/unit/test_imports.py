"""What a process that serves loads. import-linter (pyproject.toml) reads the import statements; this test runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVING = ("serving.cluster", "serving.app", "serving.gateway.replica")
# PyTorch is for CUDA, the others for training.
UNSERVED_LIBRARIES = {"torch", "transformers", "duckdb", "scipy", "sklearn", "pandas", "huggingface_hub"}
UNSERVED_MODULES = re.compile(
    r"models\.(.*\.)?(train_\w+|fit_\w+|export|embed_products|add_to_bundle|training_data|impressions)$"
    r"|models\.bundles\.(build|extend|sources|work_folder)$"
    r"|models\.(lexical\.bm25|events\.importing|text_tuning|evaluation|studies|sample_store|train_all)\b"
)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that a fresh interpreter holds after it imported what serves on a CPU."""
    script = f"import sys, json, {', '.join(SERVING)}; json.dump(sorted(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_what_serves_is_loaded(loaded: set[str]) -> None:
    assert {*SERVING, "models.bundles.bundle", "models.ranking.ranker", "models.unified.light_tower"} <= loaded


def test_serving_on_a_cpu_loads_no_library_of_training(loaded: set[str]) -> None:
    assert {name.partition(".")[0] for name in loaded} & UNSERVED_LIBRARIES == set()


def test_serving_loads_no_code_that_trains_builds_or_evaluates(loaded: set[str]) -> None:
    assert [name for name in sorted(loaded) if UNSERVED_MODULES.search(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "models.unified.train_unified",
        "models.ranking.fit_ranker",
        "models.text_tuning.pairs",
        "models.bundles.build",
        "models.evaluation.metrics",
        "models.train_all",
    ],
)
def test_code_that_trains_builds_or_evaluates_is_recognised(name: str) -> None:
    assert UNSERVED_MODULES.search(name)


def test_the_contract_of_import_linter_names_every_module_that_trains() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = next(
        contract["forbidden_modules"] for contract in contracts if "serving.app" in contract.get("source_modules", ())
    )
    paths = [path for verb in ("train", "fit") for path in (ROOT / "models").rglob(f"{verb}_*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    assert len(modules) > 5
    assert [name for name in sorted(modules) if not name.startswith(tuple(forbidden))] == []
