"""Expected errors: each ends a command with one line on stderr that says what to do, and with exit code 1."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from models.errors import InputError
from serving.cli.terminal import fail

OWN_PACKAGES = {"aisle", "loadtest", "models", "serving"}


class Commands(TyperGroup):
    """Runs every command of the tree inside `failures`."""

    def invoke(self, ctx: Any) -> Any:
        with failures():
            return super().invoke(ctx)


@contextmanager
def failures() -> Iterator[None]:
    """Prints expected errors. Any other exception is a defect and keeps its traceback."""
    try:
        yield
    except BrokenPipeError:  # `aisle ... | head`: typer ends quietly
        raise
    except InputError as error:
        fail(str(error))
    except FileNotFoundError as error:
        fail(f"there is no {error.filename}" if error.filename else str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))


@contextmanager
def needs(extra: str, *later: str) -> Iterator[None]:
    """Names the extra to install if a package is missing. `later` are packages that are imported after long work, such as those of a
    report: they are looked for at once."""
    for name in later:
        if importlib.util.find_spec(name) is None:
            fail(f"this command needs {name}: pip install 'aisle[{extra}]'")
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] in OWN_PACKAGES:
            raise
        fail(f"this command needs {error.name}: pip install 'aisle[{extra}]'")


@contextmanager
def resumable() -> Iterator[None]:
    """Tells whoever presses Ctrl-C that nothing finished is lost."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to resume where it stopped")
