"""Where a service keeps what it must not lose, unless its configuration says where."""

from __future__ import annotations

import os
import re
from pathlib import Path

from serving.config import ConfigError


def state_path(catalogue: str, ending: str, field: str) -> Path:
    """Returns the path of a catalogue's file in the user's state folder (XDG base directories). Raises ConfigError, which names the field
    of the configuration that would say another."""
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        folder = folder if folder.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise ConfigError(f"{field}: this user has no home folder; set the path of the file") from None
    return folder / "aisle" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', catalogue)}{ending}"
