"""Figures of your own machines: the reports of `aisle load` and `aisle bench`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.errors import InputError
from serving.capacity import known
from serving.capacity.figure import Figure

MILLION_ROWS = {"1,000k: exact, p50": known.EXACT_MS, "1,000k: tuned, p50": known.LISTS_MS}


class ReportError(InputError):
    """A report cannot be used; the message names the option, the file and what it lacks."""


def read_report(path: Path) -> list[Figure]:
    """Returns what a report measured, in the place of the figures of the same names. Raises ReportError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"--measured: there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"--measured {path} cannot be read as JSON: {error}") from None
    try:
        if values.get("kind") == "aisle load":
            found = list(_of_load(values, path))
        elif "figures" in values and "machine" in values:
            found = list(_of_bench(values, path))
        else:
            raise ReportError(f"--measured {path} is no report of 'aisle load' (report.json) or 'aisle bench'")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ReportError(f"--measured {path} is not as 'aisle load' or 'aisle bench' write it: {error!r}") from None
    if not found:
        raise ReportError(
            f"--measured {path} has no figure that a plan reads: neither calls with their cores, nor 'search', nor 'index'"
        )
    return found


def _of_load(values: Mapping[str, Any], path: Path) -> Iterator[Figure]:
    """The work of a call, in the stage with the most answers."""
    if void := values["verdict"].get("void"):
        raise ReportError(f"--measured {path} is void: {void}")
    machine, products = values["environment"]["machine"], values["environment"]["products"]
    rows = [(row["goodput"], each) for row, each in zip(values["stages"], values["processes"], strict=True) if each]
    if not rows or not products:
        return
    goodput, processes = max(rows, key=lambda row: row[0])
    cores = sum(each["cores"] for each in processes.values())
    if goodput <= 0 or cores <= 0:
        return
    source = f"{path}: {cores:.2f} cores for {goodput:.0f} calls/s on {machine['processor']}, {machine['cores']} cores"
    for name in (known.TEXT_MS, known.UNIFIED_MS):
        yield Figure(name, 1000 * cores / goodput, "core-ms", "measured", source)
    yield Figure(known.BASE_PRODUCTS, products, "products", "measured", str(path))


def _of_bench(values: Mapping[str, Any], path: Path) -> Iterator[Figure]:
    """The work of a search at the highest rate, and the index over a million vectors."""
    machine = values["machine"]
    where = f"{path}, {machine['processor']}, {machine['cores']} cores"
    rates: dict[str, float] = {}
    for figure in values["figures"]:
        bundle, _, name = figure["name"].partition(": ")
        if figure["benchmark"] == "search" and name.startswith("throughput, Search, "):
            rates[bundle] = max(rates.get(bundle, 0.0), figure["median"])
        elif figure["benchmark"] == "index" and figure["name"] in MILLION_ROWS:
            yield Figure(MILLION_ROWS[figure["name"]], figure["median"], "core-ms", "measured", where)
    for bundle, rate in rates.items():
        name = known.UNIFIED_MS if bundle == "personal" else known.TEXT_MS
        source = f"{where}: {rate:.0f} searches/s; the load generator's work is in it"
        yield Figure(name, 1000 * machine["cores"] / rate, "core-ms", "measured", source)
