"""The fields that the requests and answers of several services share: who searches for what, and what the answer says about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aisle.v1 import ranking_pb2, search_pb2, shopper_pb2
from models.events.event import Event
from serving.config import AisleConfig
from serving.errors import Violation
from serving.gateway.messages.checks import check_optional_shopper, read_query
from serving.gateway.messages.event_fields import EventFields
from serving.search.request import Caller
from serving.search.results import PhaseTime
from serving.search.shopper_vectors import Shopper, Source
from serving.shoppers.store import now_ms

_SOURCES = {
    Source.NONE: search_pb2.PERSONALISATION_SOURCE_NONE,
    Source.STORED: search_pb2.PERSONALISATION_SOURCE_STORED,
    Source.REQUEST: search_pb2.PERSONALISATION_SOURCE_REQUEST,
}


class RequestFields:
    """Reads the shared fields for one catalogue. `clock` returns milliseconds since 1970."""

    def __init__(self, locales: Sequence[str], config: AisleConfig, clock: Callable[[], int] = now_ms) -> None:
        self._default_locale = locales[0]
        self._locales = {locale.casefold(): locale for locale in locales}
        self._limits = config.limits
        self._events = EventFields(locales, config, clock)

    def read_caller(
        self,
        request: search_pb2.SearchRequest | ranking_pb2.RankRequest,
        violations: list[Violation],
        *,
        may_be_empty: bool = False,
    ) -> Caller:
        """`may_be_empty` says whether the query may."""
        query = self.read_query(request.query, "query", violations, may_be_empty=may_be_empty)
        locale = self.read_locale(request.locale, violations)
        check_optional_shopper(request.shopper_id, violations)
        events = self.read_recent_events(request.recent_events, violations)
        personalisation = request.personalisation if request.HasField("personalisation") else 1.0
        if not 0 <= personalisation <= 1:  # a NaN too
            violations.append(Violation("personalisation", f"is {personalisation:g}; it must be 0 to 1"))
        return Caller(
            query=query,
            locale=locale,
            shopper_id=request.shopper_id,
            recent_events=events,
            personalisation=personalisation,
        )

    def read_query(self, text: str, field: str, violations: list[Violation], *, may_be_empty: bool = False) -> str:
        return read_query(text, field, self._limits.max_query_chars, violations, may_be_empty=may_be_empty)

    def read_locale(self, locale: str, violations: list[Violation]) -> str:
        """Returns the locale as the catalogue writes it; the catalogue's first if `locale` is empty."""
        if not locale:
            return self._default_locale
        served = self._locales.get(locale.casefold())
        if served is None:
            names = ", ".join(self._locales.values())
            violations.append(Violation("locale", f"is {locale[:40]!r}; served are {names}"))
        return served or self._default_locale

    def read_recent_events(
        self, messages: Sequence[shopper_pb2.Event], violations: list[Violation]
    ) -> tuple[Event, ...]:
        """Returns the events to use instead of the stored ones, newest first."""
        if not messages:
            return ()
        if len(messages) > self._limits.max_recent_events:
            what = f"has {len(messages)} events; at most {self._limits.max_recent_events}"
            violations.append(Violation("recent_events", what))
            return ()
        return self._events.read_recent(messages, "recent_events", violations)

    def check_item_count(self, field: str, count: int, violations: list[Violation]) -> None:
        """Refuses a request to embed or classify no items or too many."""
        if not 1 <= count <= self._limits.max_embed_items:
            violations.append(Violation(field, f"has {count} items; it must have 1 to {self._limits.max_embed_items}"))


def write_shopper(
    response: search_pb2.SearchResponse | ranking_pb2.RankResponse, shopper: Shopper, personalisation: float
) -> None:
    response.personalisation.source = _SOURCES[shopper.source]
    if shopper.source is Source.NONE:
        response.personalisation.reason = shopper.reason
    else:
        response.personalisation.strength = personalisation
        response.personalisation.events = shopper.num_events


def write_phases(timing: search_pb2.Timing, phases: Sequence[PhaseTime]) -> None:
    for phase in phases:
        timing.phases.add(
            name=phase.name, queue_ms=phase.queue_ms, compute_ms=phase.compute_ms, batch_size=phase.batch_size
        )
