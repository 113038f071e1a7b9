"""The oracle of a simulated log as a ranker: an upper bound for every model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.arrays import Bools, Ints
from models.errors import InputError
from models.evaluation.cases import Cases
from models.sample_store import MAIN_LOCALE, Oracle, ParametersError, SampleStore, SimulatedLog, parameters_of

ORACLES = ("oracle", "oracle without the shopper")


class TruthError(InputError):
    """The truth file does not describe a simulated log of this version, or belongs to another log."""


class OracleRanker:
    """Ranks by the simulation's true purchase probability, with knowledge of the shopper's taste and intent."""

    def __init__(self, oracle: Oracle, num_products: int, name: str, *, knows_shopper: bool) -> None:
        """Catalogue rows must be the store's product numbers. Without `knows_shopper` it is the upper bound without personalisation."""
        self.name = name
        self._oracle = oracle
        self._num_products = num_products
        self._knows_shopper = knows_shopper

    def rank(self, cases: Cases, k: int) -> Ints:
        if cases.events.num_products != self._num_products:
            raise TruthError(
                f"the simulated log has {self._num_products:,} products, the catalogue {cases.events.num_products:,}"
            )
        first = cases.first_events
        if cases.events.ids is None:
            raise TruthError(
                "the log has no ids, by which the oracle knows its events; give the Parquet file of 'aisle simulate'"
            )
        known = known_to_oracles(cases)
        first = first[known]
        times = pa.array(cases.events.times_ms[first], pa.timestamp("ms", tz="UTC"))
        events = pa.table({"id": cases.events.ids.take(pa.array(first)), "time": times})
        ranked = np.full((len(cases), k), -1, np.int64)
        ranked[known] = self._oracle.best(events, k, knows_shopper=self._knows_shopper).products
        return ranked


def known_to_oracles(cases: Cases) -> Bools:
    """Returns (cases,) which are of the log of the main locale, whose truth an oracle knows; of others it ranks nothing."""
    locales = cases.events.locales[cases.first_events]
    return np.array([name == MAIN_LOCALE for name in cases.events.locale_names], np.bool_)[locales]


def load_oracles(truth: Path) -> list[OracleRanker]:
    """Returns the oracle, and the one that averages over shoppers, for the log that belongs to `truth`. Raises TruthError."""
    log = load_simulated_log(truth)
    oracle = Oracle(log)
    return [
        OracleRanker(oracle, log.assortment.num_products, name, knows_shopper=knows_shopper)
        for name, knows_shopper in zip(ORACLES, (True, False), strict=True)
    ]


def load_simulated_log(truth: Path) -> SimulatedLog:
    """Returns the simulation that wrote the log next to `truth`. Raises TruthError."""
    try:
        values = json.loads(truth.read_text(encoding="utf-8"))
        num_products, seed = values["num_products"], values["seed"]
        return SimulatedLog(
            SampleStore(num_products, seed),
            values["num_shoppers"],
            values["num_events"],
            seed,
            start=datetime.fromtimestamp(values["start_ms"] / 1000, UTC),
            days=values["days"],
            parameters=parameters_of(values["family"], values["parameters"]),
        )
    except OSError as error:
        raise TruthError(f"{truth.name} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, ParametersError) as error:
        raise TruthError(f"{truth.name} is no truth of this version's simulated logs: {error}") from None
