"""The upper bound of all models on a simulated log: products ranked by their true probability of a purchase.

The truth about a search is its intent, the shopper's preferences at its time, and the distribution of its page: the probability that a
product was shown and examined, times that of the click, cart and purchase. Only chance limits the oracle. A model has less information,
which can be taken from the oracle as well:

- The shopper of an anonymous search is unknown: the oracle always takes the mean over shoppers there.
- `knows_shopper=False` takes that mean everywhere: the upper bound without personalisation.
- `knows_intent=False` has the text alone, which several intents can share ("natural" is a style and a colour), and weighs the intents by
  their frequency: the tighter bound for a model that has no more than the text.

The oracle has all preferences of a shopper, although only some show in the shopper's events. That remains its advantage over every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Doubles, Ints
from models.events.event import EventKind
from models.sample_store.parameters import MAX_SEARCHES
from models.sample_store.sessions import Searches
from models.sample_store.simulated_log import SimulatedLog
from models.sample_store.words import ABSENT

_NUM_SAMPLED = 256  # shoppers for the mean over all; with 48 the oracle's Recall@100 is 0.01 lower
_CHANCES_BLOCK = 4_096  # products whose chances are computed at once, each for as many shoppers


@dataclass(frozen=True, slots=True)
class OracleRanking:
    """The best k products for each of n events."""

    products: Ints  # (n, k) numbers of products from the most likely on; -1 after the last product that can be bought
    chances: Doubles  # (n, k) probability that the event, given that it happened, was with this product; the sum is the expected Recall@k


class Oracle:
    """Ranks and scores products by the truth about the searches of a log."""

    def __init__(self, log: SimulatedLog) -> None:
        log.play()
        self._log = log
        evenly = (np.arange(_NUM_SAMPLED) + 0.5) / _NUM_SAMPLED
        self._anyone = (evenly * log.num_shoppers).astype(np.int64)[:, None]  # as anonymous sessions are drawn
        self._active = log.shoppers.draw_active(evenly)[:, None]  # as the others are
        self._frequencies = log.plan.intent_frequencies()
        self._same_text: dict[str, list[int]] = {}
        for intent, text in enumerate(log.intents.texts):
            self._same_text.setdefault(text, []).append(intent)

    def best(
        self,
        events: pa.Table,
        k: int,
        *,
        kind: EventKind = EventKind.PURCHASE,
        knows_shopper: bool = True,
        knows_intent: bool = True,
    ) -> OracleRanking:
        """Ranks all products that are live at each event by the true probability of an event of `kind`.

        `events` is a table or batch of n events of this log; only `id` and `time` are read.
        """
        products = np.full((events.num_rows, k), ABSENT)
        chances = np.zeros((events.num_rows, k))
        searches = self.searches(events)
        times = events["time"].cast(pa.int64()).to_numpy(zero_copy_only=False)
        for row, (intent, shopper, is_anonymous, time_ms) in enumerate(_rows(searches, times)):
            intents = [intent] if knows_intent else self._same_text[self._log.intents.texts[intent]]
            named = np.array([[shopper]]) if knows_shopper else self._active
            shoppers = self._anyone if is_anonymous else named
            live, scores = self._scores(intents, shoppers, time_ms, kind)
            best = np.argsort(-scores, kind="stable")[:k]
            products[row, : len(best)] = live[best]
            chances[row, : len(best)] = scores[best] / scores.sum()
        return OracleRanking(products, chances)

    def chances(self, events: pa.Table, event: Ints, products: Ints, *, knows_shopper: bool = True) -> Doubles:
        """Returns (rows, 3) for products (rows,) that are examined in the search of event[row]: the probabilities of a click, of a click
        and a cart, and of all three. Takes the mean over shoppers for anonymous searches, and without `knows_shopper` for all."""
        searches = self.searches(events)
        times = events["time"].cast(pa.int64()).to_numpy(zero_copy_only=False)
        result = np.empty((len(products), 3))
        is_named = ~searches.is_anonymous[event] & knows_shopper
        is_anonymous = searches.is_anonymous[event]
        for rows, shoppers in (
            (np.flatnonzero(is_named), None),
            (np.flatnonzero(~is_named & is_anonymous), self._anyone),
            (np.flatnonzero(~is_named & ~is_anonymous), self._active),
        ):
            for start in range(0, len(rows), _CHANCES_BLOCK):
                at = rows[start : start + _CHANCES_BLOCK]
                search = event[at]
                chances = self._log.family.engagement.chances(
                    searches.intent[search][None, :],
                    searches.shopper[search][None, :] if shoppers is None else shoppers,
                    products[at][None, :],
                    times[search][None, :],
                )
                nested = np.cumprod([chances.click, chances.cart, chances.purchase], axis=0)  # (3, shoppers, rows)
                result[at] = nested.mean(axis=1).T
        return result

    def is_habitual(self, events: pa.Table) -> Bools:
        """Returns which events (n,) are of habitual shoppers that the log names."""
        searches = self.searches(events)
        return self._log.shoppers.is_habitual[searches.shopper] & ~searches.is_anonymous

    def searches(self, events: pa.Table) -> Searches:
        """Returns the truth about the search of each event, by the number in the event's id."""
        digits = pc.list_element(pc.split_pattern(pc.utf8_slice_codeunits(events["id"], 1), "-"), 0)
        numbers = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False)
        searches = self._log.searches(np.unique(numbers // MAX_SEARCHES))
        return searches.at(np.searchsorted(searches.number(), numbers))

    def _scores(self, intents: list[int], shoppers: Ints, time_ms: int, kind: EventKind) -> tuple[Ints, Doubles]:
        """Returns the live products that can be shown, and numbers in proportion to their probabilities."""
        parts = []
        for intent in intents:
            products, examined = self._log.family.pages.candidates(intent, time_ms)
            chances = self._log.family.engagement.chances(
                np.array([[intent]]), shoppers, products[None, :], np.array([[time_ms]])
            )
            happens = chances.click
            if kind in {EventKind.CART, EventKind.PURCHASE}:
                happens = happens * chances.cart
            if kind == EventKind.PURCHASE:
                happens = happens * chances.purchase
            parts.append((products, self._frequencies[intent] * examined * happens.mean(axis=0)))
        if len(parts) == 1:
            return parts[0]
        products, place = np.unique(np.concatenate([products for products, _ in parts]), return_inverse=True)
        return products, np.bincount(place, np.concatenate([scores for _, scores in parts])).astype(np.float64)


def _rows(searches: Searches, times: Ints) -> Iterator[tuple[int, int, bool, int]]:
    columns = (searches.intent, searches.shopper, searches.is_anonymous, times)
    return zip(*(column.tolist() for column in columns), strict=True)
