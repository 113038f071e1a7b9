"""What the answers of Search and Rank were like, counted where a call has its results."""

from __future__ import annotations

from collections.abc import Iterable

from serving.metrics import table
from serving.search.request import RankModel, Search
from serving.search.results import Degradation, RankedProducts, Results
from serving.search.shopper_vectors import Source

PARTS = ("shopper", "types", "readings", "shards", "rank", "teacher", "catalogue")


class _AnswerMetrics:
    """What the answers of both calls have."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._ranked_by = {model: table.RANKED_BY.labels(method, str(model)) for model in RankModel}
        self._sources = {source: table.PERSONALISED.labels(method, str(source)) for source in Source}
        for part in PARTS:  # a counter that appears with its first count has no rate yet
            table.DEGRADATIONS.labels(method, part)

    def count(self, ranked_by: RankModel, source: Source, degradations: Iterable[Degradation]) -> None:
        self._ranked_by[ranked_by].inc()
        self._sources[source].inc()
        for part in {degradation.part for degradation in degradations}:
            table.DEGRADATIONS.labels(self._method, part).inc()


class _LocaleMetrics:
    def __init__(self, locale: str) -> None:
        self.found = table.RESULTS_FOUND.labels(locale)
        self.zero = table.ZERO_RESULTS.labels(locale)
        self.corrected = table.CORRECTED_QUERIES.labels(locale)
        self.identified = table.IDENTIFIER_HITS.labels(locale)


class SearchMetrics:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._answers = _AnswerMetrics("Search")
        self._locales: dict[str, _LocaleMetrics] = {}  # no others than the catalogue's: a search has one of these

    def answered(self, search: Search, results: Results) -> None:
        self._answers.count(results.ranked_by, results.shopper.source, results.degradations)
        locale = self._locales.get(search.locale)
        if locale is None:
            locale = self._locales[search.locale] = _LocaleMetrics(search.locale)
        locale.found.observe(results.total)
        if not results.total:
            locale.zero.inc()
        if results.corrected_query:
            locale.corrected.inc()
        if results.hits.matched:
            locale.identified.inc()


class RankMetrics:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._answers = _AnswerMetrics("Rank")

    def answered(self, results: RankedProducts) -> None:
        self._answers.count(results.ranked_by, results.shopper.source, results.degradations)
