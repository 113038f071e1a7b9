"""The parameters of a family come from a file, are checked, and are printed as a file that makes the same log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.sample_store import (
    FAMILIES,
    CascadeParameters,
    LogParameters,
    Oracle,
    ParametersError,
    SampleStore,
    SimulatedLog,
    parameters_file,
    parameters_of,
    read_parameters,
    write_sample_log,
)
from models.sample_store.query_fit import num_violated

# That of the figures which the documentation says are of the first version.
FIRST_VERSION = LogParameters(unasked_penalty=2.2, click_bias=-2.2, cart_bias=-2.4, purchase_weights=(0.4, 0.8, 0.5))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_printed_parameters_are_the_defaults(family: str, tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(parameters_file(parameters_of(family, {})))
    assert read_parameters(family, path) == FAMILIES[family]()
    assert all("#" in line for line in path.read_text().splitlines() if line)  # each says what it is


def test_a_file_states_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('patience = 0.5\ntaste = "worst"\nrepeat_days = [3, 9]\n')
    assert read_parameters("cascade", path) == CascadeParameters(patience=0.5, taste="worst", repeat_days=(3, 9))


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("casc", {}, "there is no family 'casc' of simulations; there are additive, cascade"),
        ("cascade", {"patience": 1.5}, "patience is 1.5: Input should be less than or equal to 1"),
        ("cascade", {"patience": float("nan")}, "patience is nan"),
        ("cascade", {"patience": True}, "patience is True: Input should be a valid number"),
        ("additive", {"change_days": "30"}, "change_days is '30': Input should be a valid number"),
        (
            "cascade",
            {"look_exponent": 1},
            "the family cascade has no parameter 'look_exponent'; it has anonymous_share",
        ),
        ("cascade", {"taste": "best"}, "taste is 'best': Input should be 'product' or 'worst'"),
        ("cascade", {"repeat_days": [9, 3]}, r"repeat_days must be \[first day, last day\], not \[9, 3\]"),
        ("cascade", {"out_days": 15}, "out_days is 15; it must be at most half of cycle_days, 20"),
        ("additive", {"depth_shares": [0.5, 0.1, 0.1, 0.1, 0.1, 0.2]}, "the sum of depth_shares must be 1, not 1.1"),
    ],
)
def test_what_is_wrong_is_named(family: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ParametersError, match=message):
        parameters_of(family, values)


def test_the_truth_holds_the_family_and_another_family_gives_other_events(tmp_path: Path) -> None:
    for name in FAMILIES:
        write_sample_log(tmp_path / name, 300, 40, 4_000, 1, lambda *_: None, parameters=parameters_of(name, {}))
        truth = json.loads((tmp_path / name / "truth.json").read_text())
        assert truth["family"] == name
        assert parameters_of(name, truth["parameters"]) == FAMILIES[name]()
    files = [
        [(tmp_path / name / file).read_bytes() for name in FAMILIES] for file in ("catalogue.parquet", "events.parquet")
    ]
    assert files[0][0] == files[0][1]
    assert files[1][0] != files[1][1]


def fitting(parameters: LogParameters) -> tuple[float, float]:
    """Returns the share of purchases that have all that their query named, and how many purchases a search leads to."""
    log = SimulatedLog(SampleStore(10_000), 800, 100_000, parameters=parameters)
    events = pa.Table.from_batches(log.batches())
    searches = len(np.unique(Oracle(log).searches(events).number()))
    bought = events.filter(pc.equal(events["kind"].cast(pa.string()), "purchase"))
    products = np.array([int(text[3:]) - 1 for text in bought["product_id"].to_pylist()])
    intent = Oracle(log).searches(bought).intent
    names = (log.intents.fields[intent] >= 0).any(axis=1)
    fits = num_violated(log.intents, log.assortment, intent, products) == 0
    return float(fits[names].mean()), bought.num_rows / searches


def test_shoppers_who_name_something_buy_what_has_it() -> None:
    share, rate = fitting(LogParameters())
    assert share > 0.94
    assert rate == pytest.approx(0.18, abs=0.02)
    careless, careless_rate = fitting(FIRST_VERSION)
    assert 0.80 < careless < 0.90
    assert careless_rate == pytest.approx(rate, abs=0.02)
    indifferent, _ = fitting(LogParameters(unasked_penalty=0))
    assert indifferent < 0.6
