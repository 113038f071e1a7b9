"""What became of pages and events in an export."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ServedCounts:
    """Of pages those that are no impressions, by reason; of events how their page was found, or why none was."""

    pages: int = 0
    sorted: int = 0  # in an order that the caller named
    without_query: int = 0
    empty: int = 0
    tagged: int = 0  # with a shopper's tag
    of_nobody: int = 0  # with a tag that is no shopper's any more
    shoppers: int = 0  # with events
    events: int = 0
    by_request: int = 0
    by_query: int = 0
    on_unlogged: int = 0  # the event names a page that is not in the log
    not_shown: int = 0  # ... that did not show the product, or is another shopper's
    nameless: int = 0  # the event names no page, and none was found
    stored_impressions: int = 0  # left out: the request log has their page

    def lines(self) -> list[str]:
        """Returns the counts for a person, without those that are 0."""
        beside = "events without impressions:"
        told = (
            (self.pages, "pages in the request log"),
            (self.sorted, "pages left out: in an order that the caller named"),
            (self.without_query, "pages left out: without a query"),
            (self.empty, "pages left out: without a hit"),
            (self.of_nobody, "pages are anonymous: their shoppers are forgotten, or have no events any more"),
            (self.events, f"events of {self.shoppers:,} shoppers in the store"),
            (self.by_request, "events on the page that they name"),
            (self.by_query, "events on a page found by shopper, query and time"),
            (self.on_unlogged, f"{beside} the page that they name was not logged"),
            (self.not_shown, f"{beside} the page that they name did not show the product, or is another shopper's"),
            (self.nameless, f"{beside} they name no page, and none was found"),
            (self.stored_impressions, "recorded impressions left out: the request log has their pages"),
        )
        return [f"{count:,} {what}" for count, what in told if count]
