"""Helm in a process of its own: `python -m tests.helm CHART render|lint`, with the values as JSON on the standard input. Its runtime is
Go's, and in a process that many libraries share it crashed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class HelmError(Exception):
    """Helm refused the chart or the values."""


def ask(command: str, chart: Path, values: dict[str, Any]) -> Any:
    """Returns the texts of the templates that Helm renders, or the messages of its linter. Raises HelmError."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helm", str(chart), command],
        input=json.dumps(values), capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if done.returncode:
        raise HelmError(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    import helm_python

    chart, command, values = Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
    if command == "lint":
        answer: Any = dict(helm_python.lint(chart, values, strict=True))
    else:
        try:
            with helm_python.Chart.load(chart) as opened:
                answer = dict(opened.render(values, name="shop", namespace="prod"))
        except helm_python.HelmError as error:
            raise SystemExit(str(error)) from None
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
