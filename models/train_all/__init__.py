"""Trains all models of a shop from its catalogue and log: writes a bundle that retrieves, classifies queries and ranks, and a report on it.

    events before           text encoder (tuned on clicks)     the teacher's base, also for `aisle build`
    a first time            unified model                      retrieval; it has its own words, and no text encoder
                            types                              the query classifier
    between it and          teacher                            a cross-encoder on the tuned text encoder
    a second time           ranker                             the served student, distilled from the teacher
    after the second time   report                             a comparison with the previous measured bundle
    after the first time    refit                              the bundle that is shipped (`newest`)

Each measured model is trained on earlier events than the next one, and none on the events of the report. The shipped bundle is the
measured one that has learned the rest; nobody can measure it, as there are no later events. What there is decides
what is trained: `look` says before anything is trained which stages lack what (`models.needs`), and those that cannot learn are left out.
Retrieval alone is a bundle that can be served. The result of every stage is kept in `OUT/work`: the same call resumes after an
interruption, and repeats only the stages whose inputs or recipe changed. `update_all` learns what is new since.
"""

from models.train_all.recipe import RECIPES, LoopRecipe
from models.train_all.shop import Look, Shop, look
from models.train_all.train import TrainedAll, check_before, check_gate, train_all
from models.train_all.update import Updated, UpdateLook, look_at_update, trained_half_life, update_all

__all__ = [
    "RECIPES",
    "Look",
    "LoopRecipe",
    "Shop",
    "TrainedAll",
    "UpdateLook",
    "Updated",
    "check_before",
    "check_gate",
    "look",
    "look_at_update",
    "train_all",
    "trained_half_life",
    "update_all",
]
