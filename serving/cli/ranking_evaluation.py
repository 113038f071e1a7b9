"""The command that compares rankers: evaluate ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.arrays import Progress
from serving.cli.models import Seed, evaluate_app
from serving.cli.terminal import fail
from serving.cli.types import command_line, evaluated

NO_TEACHER = "none"


@evaluate_app.command("ranking")
def evaluate_ranking(
    bundle: Annotated[Path, typer.Option(help="A bundle that 'aisle train unified' made of the store.")],
    store: Annotated[Path, typer.Option(help="The folder of 'aisle simulate', whose truth is known.")],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder for report.html, details/report.html, their JSON and what was trained."),
    ],
    recipe: Annotated[str, typer.Option(help="Of the ranker: starter or small.")] = "starter",
    teacher: Annotated[
        str,
        typer.Option(
            help="Also train teachers and their students: toy (a minute), starter, small, full (GPU), or none."
        ),
    ] = "toy",
    device: Annotated[str, typer.Option(help="Where teachers are trained: cpu or cuda.")] = "cpu",
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute or two: fewer pages and epochs, no teacher.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Compares rankers on later result pages of a simulated store, and search with the ranker to search without.

    Multi-task against single tasks, other ways to share and to weigh, LambdaMART, words, popularity and the oracle; with few purchase
    labels; with and without personal features; under position bias. With intervals. Interrupted, the same command goes on where it
    stopped.
    """

    def run(progress: Progress) -> Path:
        from models.bundles.bundle import Bundle
        from models.devices import check_training_device
        from models.ranking.recipe import RECIPES
        from models.studies.ranking.evaluate_ranking import RankingPlan
        from models.studies.ranking.evaluate_ranking import evaluate_ranking as evaluate
        from models.studies.ranking.taught import TeacherPlan

        if recipe not in RECIPES:
            fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
        check_training_device(device)
        taught = None if teacher == NO_TEACHER else TeacherPlan.named(teacher, device)
        plan = RankingPlan(RECIPES[recipe], taught, seed=seed)
        return evaluate(
            Bundle(bundle), store, out_folder, progress, plan=plan.quick() if quick else plan, command=command_line()
        )

    evaluated(run)
