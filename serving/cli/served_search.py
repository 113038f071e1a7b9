"""What a service answers by default, computed in this process: the search that the report at the end of training measures.

It is put together of the parts that serve: the query is mended and read for conditions, all legs are searched through the index of the
bundle, the student ranks, and the rules of order decide. Only callers, stages and deadlines are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Ints
from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.products.scripts import KnownScripts
from models.query_types.bundle_part import TYPES_PART
from models.ranking.attribute_lift import MAX_TYPES
from models.ranking.bundle_part import RANKER_PART
from models.ranking.features import QueryInput
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_retriever
from serving.compute.filter_masks import NO_FILTER
from serving.compute.retrieval import Query, Retrieved, SearchItem, Subject
from serving.config import AisleConfig
from serving.search.order import as_retrieved, by_student, num_leading
from serving.search.query_text import Negations, QueryText, QueryTexts, reworded
from serving.search.request import AS_RETRIEVED, Ranking, RankModel, Search, TypeUse
from serving.search.retrieve import search_item
from serving.search.type_use import TypeFinding, usable

PAGE_SIZE = 24


class ServedSearch:
    """Searches a bundle with the default configuration. One thread computes at a time."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError."""
        catalogue, speller, manifest = Catalogue.open(bundle), load_speller(bundle), bundle.manifest
        lexical = catalogue.lexical
        self._retriever = open_retriever(catalogue)
        self._texts = QueryTexts(
            speller,
            catalogue.identifiers,
            manifest.locales[0],
            manifest.currency,
            Negations(catalogue.table, lexical) if lexical else None,
            KnownScripts(speller.counts, manifest.locales) if lexical else None,
        )
        self._types = TYPES_PART.find(bundle)
        self._ranks = RANKER_PART.is_in(bundle)
        self._locales = manifest.locales
        self._config = AisleConfig()

    def __call__(self, queries: Sequence[QueryInput]) -> list[Ints]:
        """Returns rows of products, best first."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: QueryInput) -> Ints:
        # The gateway refuses a locale that the bundle does not serve; callers from there state none, which is the first.
        search = self._request(query.text, query.locale if query.locale in self._locales else self._locales[0])
        read = self._texts.read(search.query, search.locale, NO_FILTER)
        found = self._search(reworded(search, read), read, query)
        if read.is_conditional and not found.candidates.holds_words:
            without = read.unconditional(NO_FILTER)
            wider = self._search(reworded(search, without), without, query)
            found = wider if wider.candidates.holds_words or not found.candidates.rows else found
        candidates, scores = found.candidates, found.scores
        count = len(candidates.rows)
        leading = num_leading(candidates, min(count, search.ranking.depth))
        order = by_student(scores, count, leading) if len(scores) else as_retrieved(count)
        return np.array(candidates.rows, np.int64)[list(order.places)]

    def _request(self, text: str, locale: str) -> Search:
        """Returns what the gateway makes of a call that states nothing but query, locale and shopper."""
        ranker, types = self._config.ranker, self._config.types
        has_its_words = locale == self._locales[0]
        ranking = Ranking(
            model=RankModel.STUDENT,
            depth=ranker.depth,
            weights=ranker.weights,
            asked_weight=ranker.asked_weight if has_its_words else 0.0,
        )
        return Search(
            query=text,
            locale=locale,
            page_size=PAGE_SIZE,
            lexical_weight=float(has_its_words),
            type_use=TypeUse(types.use) if self._types else TypeUse.OFF,
            type_boost=types.boost if self._types else 0.0,
            ranking=ranking if self._ranks else AS_RETRIEVED,
        )

    def _search(self, search: Search, read: QueryText, query: QueryInput) -> Retrieved:
        texts = [search.query, *(other.text for other in read.readings[1:])]
        depth = self._config.ranker.depth
        asked = [self._asked(search, text, query) for text in texts]
        return self._ask(search_item(search, asked, k=max(depth, PAGE_SIZE + 1), depth=depth))

    def _asked(self, search: Search, text: str, query: QueryInput) -> tuple[Subject, TypeFinding]:
        """Returns what a reading of the query asks for."""
        types = TypeFinding()
        if self._types and text:
            (prediction,) = self._types.classify([text], [search.locale], MAX_TYPES)
            types = TypeFinding(prediction, usable(prediction, search.type_use))
        is_known = query.shopper is not None and bool(np.any(query.shopper))
        subject = Subject(
            query=Query(text, search.locale),
            shopper=query.shopper if is_known else None,
            taste=query.taste,
            types=types.prediction if self._types and text else None,
        )
        return subject, types

    def _ask(self, item: SearchItem) -> Retrieved:
        (found,) = self._retriever.compute([item])
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Retrieved)  # noqa: S101 - a SearchItem is answered with Retrieved
        return found
