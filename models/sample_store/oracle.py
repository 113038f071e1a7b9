"""The best that any model could do on a simulated log: products ranked by their true chance of being bought.

The truth about a search is its intent, the shopper's taste at its time, and how its page was drawn: the chance that a product
was shown and looked at, times that of the click, cart and purchase that followed. What limits the oracle is what was left to
chance in these. A model is limited further, and the oracle can be told to be limited as well:

- Who searches anonymously nobody can know: the oracle always takes the mean over shoppers there.
- `knows_shopper=False` takes that mean everywhere: the best without personalisation.
- `knows_intent=False` knows the text alone, which can stand for several intents ("natural" is a style and a colour), and
  weighs them by how common they are: the tighter bound for a model that has no more than the text.

That a shopper's taste is known in full, though only a part of it shows in the shopper's events, remains an advantage of the
oracle over every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Doubles, Ints
from models.events.event import EventKind
from models.sample_store.latents import ABSENT
from models.sample_store.parameters import MAX_SEARCHES
from models.sample_store.sessions import Searches
from models.sample_store.shopping import ShoppingLog

_MEAN_OF = 256  # shoppers that stand for all; with 48 its Recall@100 is 0.01 lower
_CHANCES_BLOCK = 4_096  # products looked at together, each by as many shoppers


@dataclass(frozen=True, slots=True)
class OracleRanking:
    """The best k products for each of n events."""

    products: Ints  # (n, k) numbers of products from the most likely on; -1 where no more can be bought
    chances: Doubles  # (n, k) that the event, given that it happened, was with this product

    def expected_recall(self) -> float:
        """Recall@k that this ranking reaches in the mean over all that could have happened at these events."""
        return float(self.chances.sum(axis=1).mean())

    def expected_ndcg(self) -> float:
        """The same for NDCG@k, with the event's product as the only relevant one."""
        discounts = 1 / np.log2(np.arange(self.chances.shape[1]) + 2)
        return float((self.chances @ discounts).mean())


class Oracle:
    def __init__(self, log: ShoppingLog) -> None:
        self._log = log
        evenly = (np.arange(_MEAN_OF) + 0.5) / _MEAN_OF
        self._anyone = (evenly * log.num_shoppers).astype(np.int64)[:, None]  # as anonymous sessions are drawn
        self._active = log.shoppers.draw_active(evenly)[:, None]  # as the others are
        self._commonness = log.plan.commonness()
        self._same_text: dict[str, list[int]] = {}
        for intent, text in enumerate(log.intents.texts):
            self._same_text.setdefault(text, []).append(intent)

    def rank(self, events: pa.Table, k: int) -> Ints:
        """The products (n, k) that were most likely to be bought at each of n events of the log; see `best`."""
        return self.best(events, k).products

    def best(
        self,
        events: pa.Table,
        k: int,
        *,
        kind: EventKind = EventKind.PURCHASE,
        knows_shopper: bool = True,
        knows_intent: bool = True,
    ) -> OracleRanking:
        """Ranks all products that are live at each event by the true chance of an event of `kind`.

        `events` is a table or batch of n events of this log; only `id` and `time` are read.
        """
        products = np.full((events.num_rows, k), ABSENT)
        chances = np.zeros((events.num_rows, k))
        searches = self.searches(events)
        times = events["time"].cast(pa.int64()).to_numpy(zero_copy_only=False)
        for row, (intent, shopper, is_anonymous, time_ms) in enumerate(_rows(searches, times)):
            intents = [intent] if knows_intent else self._same_text[self._log.intents.texts[intent]]
            someone = np.array([[shopper]]) if knows_shopper else self._active
            shoppers = self._anyone if is_anonymous else someone
            found, scores = self._scores(intents, shoppers, time_ms, kind)
            best = np.argsort(-scores, kind="stable")[:k]
            products[row, : len(best)] = found[best]
            chances[row, : len(best)] = scores[best] / scores.sum()
        return OracleRanking(products, chances)

    def chances(self, events: pa.Table, event: Ints, products: Ints, *, knows_shopper: bool = True) -> Doubles:
        """(rows, 3) of products (rows,), each looked at in the search of event[row]: the chances of a click, of a click and a cart, and of
        all three. The mean over shoppers where the search is anonymous, and without `knows_shopper` everywhere."""
        searches = self.searches(events)
        times = events["time"].cast(pa.int64()).to_numpy(zero_copy_only=False)
        found = np.empty((len(products), 3))
        is_known = ~searches.is_anonymous[event] & knows_shopper
        everyone = np.where(searches.is_anonymous[event], 0, 1)
        for rows, shoppers in (
            (np.flatnonzero(is_known), None),
            (np.flatnonzero(~is_known & (everyone == 0)), self._anyone),
            (np.flatnonzero(~is_known & (everyone == 1)), self._active),
        ):
            for start in range(0, len(rows), _CHANCES_BLOCK):
                at = rows[start : start + _CHANCES_BLOCK]
                of = event[at]
                who = searches.shopper[of][None, :] if shoppers is None else shoppers
                told = self._log.engagement.chances(
                    searches.intent[of][None, :], who, products[at][None, :], times[of][None, :]
                )
                nested = np.cumprod([told.click, told.cart, told.purchase], axis=0)  # (3, shoppers, rows)
                found[at] = nested.mean(axis=1).T
        return found

    def is_habitual(self, events: pa.Table) -> Bools:
        """Which events (n,) are of habitual shoppers that the log names."""
        searches = self.searches(events)
        return self._log.shoppers.is_habitual[searches.shopper] & ~searches.is_anonymous

    def searches(self, events: pa.Table) -> Searches:
        """The truth about the search of each event, found by the number in the event's id."""
        digits = pc.list_element(pc.split_pattern(pc.utf8_slice_codeunits(events["id"], 1), "-"), 0)
        numbers = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False)
        searches = self._log.plan.searches(np.unique(numbers // MAX_SEARCHES))
        return searches.at(np.searchsorted(searches.number(), numbers))

    def _scores(self, intents: list[int], shoppers: Ints, time_ms: int, kind: EventKind) -> tuple[Ints, Doubles]:
        """Live products that can be shown, and a number in proportion to their chance."""
        parts = []
        for intent in intents:
            products, examined = self._log.pages.candidates(intent, time_ms)
            chances = self._log.engagement.chances(
                np.array([[intent]]), shoppers, products[None, :], np.array([[time_ms]])
            )
            happens = chances.click
            if kind in {EventKind.CART, EventKind.PURCHASE}:
                happens = happens * chances.cart
            if kind == EventKind.PURCHASE:
                happens = happens * chances.purchase
            parts.append((products, self._commonness[intent] * examined * happens.mean(axis=0)))
        if len(parts) == 1:
            return parts[0]
        products, place = np.unique(np.concatenate([products for products, _ in parts]), return_inverse=True)
        return products, np.bincount(place, np.concatenate([scores for _, scores in parts])).astype(np.float64)


def _rows(searches: Searches, times: Ints) -> Iterator[tuple[int, int, bool, int]]:
    columns = (searches.intent, searches.shopper, searches.is_anonymous, times)
    return zip(*(column.tolist() for column in columns), strict=True)
