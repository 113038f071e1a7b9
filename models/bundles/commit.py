"""The commit of this checkout of Aisle."""

from __future__ import annotations

import subprocess
from pathlib import Path


def checkout_commit() -> str:
    """Returns the commit of the checkout that runs, or "" outside one, as in an installation into another repository's .venv."""
    here = Path(__file__)
    if not _git("-C", str(here.parent), "ls-files", here.name):
        return ""
    return _git("-C", str(here.parent), "describe", "--always", "--dirty")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
