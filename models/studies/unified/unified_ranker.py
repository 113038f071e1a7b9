"""The unified model as a ranker: searches as serving does, over the product vectors in the model's folder."""

from __future__ import annotations

from dataclasses import dataclass

from models.arrays import Floats, Ints
from models.evaluation.cases import Cases, Histories
from models.products.product_table import ProductTable
from models.studies.case_histories import CaseHistories
from models.studies.rankers import nearest
from models.unified.unified_model import Search, UnifiedModel

MAX_EVENTS = 256  # the latest of a history; a model reads at most 64 items of each kind


@dataclass(frozen=True, slots=True, eq=False)
class UnifiedRanker:
    """Ranks by exact search with a trained model's vector of query and history."""

    name: str
    model: UnifiedModel
    table: ProductTable
    histories: Histories  # `history_events` of the log of the cases

    def rank(self, cases: Cases, k: int) -> Ints:
        return nearest(self.search_vectors(cases), self.model.product_vectors, k)

    def search_vectors(self, cases: Cases) -> Floats:
        """Returns (cases, dim)."""
        if self.model.tower.spec.history.total:
            known = CaseHistories(self.histories, self.table.product, self.model.bands.band, MAX_EVENTS).before(cases)
        else:
            known = [[] for _ in range(len(cases))]
        searches = zip(cases.texts, cases.locale_names, known, strict=True)
        return self.model.search_vectors([Search(query, locale, history) for query, locale, history in searches])
