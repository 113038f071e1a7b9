"""The families of simulations by name, and their parameters as files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from models.errors import InputError
from models.sample_store.additive import Additive
from models.sample_store.assortment import Assortment
from models.sample_store.cascade import Cascade
from models.sample_store.family import Family
from models.sample_store.intents import Intents
from models.sample_store.parameters import CascadeParameters, LogParameters, SharedParameters
from models.sample_store.shoppers import Shoppers

FAMILIES: dict[str, type[SharedParameters]] = {"additive": LogParameters, "cascade": CascadeParameters}


class ParametersError(InputError):
    """Parameters of a simulation are wrong. The text names the family, the parameter and what it must be."""


def family_of(
    assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: SharedParameters, seed: int, start_ms: int
) -> Family:
    """Returns the family that has parameters of this class. Raises ValueError for another."""
    if isinstance(parameters, LogParameters):
        return Additive(assortment, shoppers, intents, parameters, seed)
    if isinstance(parameters, CascadeParameters):
        return Cascade(assortment, shoppers, intents, parameters, seed, start_ms)
    raise ValueError(f"no family of simulations has {type(parameters).__name__}")


def family_name(parameters: SharedParameters) -> str:
    return next(name for name, kind in FAMILIES.items() if kind is type(parameters))


def read_parameters(name: str, path: Path | None) -> SharedParameters:
    """Reads the parameters of a family from a TOML file; what it does not state has its default. Raises ParametersError."""
    if path is None:
        return parameters_of(name, {})
    try:
        return parameters_of(name, tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParametersError(f"{path.name} is no TOML: {error}") from None


def parameters_of(name: str, values: object) -> SharedParameters:
    """Checks the parameters of a family. Raises ParametersError."""
    if name not in FAMILIES:
        raise ParametersError(f"there is no family {name!r} of simulations; there are {', '.join(FAMILIES)}")
    try:
        # As JSON, where strict types refuse true and "5" for a number, and still take a list for a tuple.
        return TypeAdapter(FAMILIES[name]).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = ", ".join(field.name for field in fields(FAMILIES[name]))
            raise ParametersError(f"the family {name} has no parameter {place!r}; it has {known}") from None
        problem = first["msg"].removeprefix("Value error, ")
        stated = f"{place} is {first['input']!r}: " if place else ""
        raise ParametersError(f"parameters of the family {name}: {stated}{problem}") from None


def parameters_file(parameters: SharedParameters) -> str:
    """Returns parameters as a TOML file with comments."""
    hints = get_type_hints(type(parameters), include_extras=True)
    about = (type(parameters).__doc__ or "").strip()
    lines = [f"# aisle simulate --family {family_name(parameters)} --parameters FILE", f"# {about}", ""]
    for field in fields(parameters):
        note = next(
            note.description for note in get_args(hints[field.name]) if isinstance(note, FieldInfo) and note.description
        )
        lines.append(f"{field.name} = {_toml(getattr(parameters, field.name))}  # {note}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
