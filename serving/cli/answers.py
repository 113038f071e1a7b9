"""Responses of the service as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, zip_longest
from typing import Any

import grpc
from rich.markup import escape
from rich.table import Table

from aisle.v1 import info_pb2, info_pb2_grpc, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from models.products.currency import currency_digits
from serving.cli.terminal import out

PROBABILITIES = ("click %", "cart %", "buy %")
OVER = {search_pb2.FACET_SCOPE_ALL: "all", search_pb2.FACET_SCOPE_MATCHING: "all matching"}  # what a facet counts over
WIDE = 120  # a terminal of so many characters shows every column of a ranked hit
MAX_FACTORS = 4  # shown for each hit


def currency_digits_of(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> int:
    """Returns the minor digits of the service's prices, or 2 if the key lacks the scope to ask."""
    try:
        info = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=5, metadata=metadata)
    except grpc.RpcError:
        return 2
    return currency_digits(info.catalogue.currency)


def _print_understood(part: search_pb2.UnderstoodPart, digits: int) -> None:
    """Prints a condition of the query, and whether it was applied."""
    if part.kind == search_pb2.QUERY_PART_KIND_CORRECTION:
        return
    if part.kind == search_pb2.QUERY_PART_KIND_UNKNOWN:
        meaning = "no letter that the catalogue uses; searched by its words alone"
    elif part.kind == search_pb2.QUERY_PART_KIND_NEGATION:
        meaning = f"without {escape(', '.join(map(repr, part.words)))}"
    else:
        low = part.min_price_minor if part.HasField("min_price_minor") else None
        high = part.max_price_minor if part.HasField("max_price_minor") else None
        bounds = (("from", low), ("to", high))
        meaning = "price " + " ".join(
            f"{word} {price / 10**digits:.{digits}f}" for word, price in bounds if price is not None
        )
    left_out = f", [yellow]left out: {escape(part.reason)}[/yellow]" if not part.applied else ""
    out.print(f"{escape(repr(part.text))}: {meaning}{left_out}", highlight=False)


def print_answer(
    query: str, answer: search_pb2.SearchResponse, elapsed_ms: float, digits: int, explain: bool = False
) -> None:
    """Prints the hits, what was done with the query, and the time of each phase. `digits` are the minor digits of prices."""
    is_ranked = answer.ranked_by not in (search_pb2.RANK_MODEL_UNSPECIFIED, search_pb2.RANK_MODEL_NONE)
    numbers = ("", "was", *PROBABILITIES, "blend") if is_ranked else ("", "score")
    columns = (*numbers, "product", "brand", "price", "why")
    narrow = {"", "was", "buy %", "product", "price", "why" if explain else "brand"}
    shown = [not is_ranked or out.width >= WIDE or column in narrow for column in columns]
    table = _table(query, compress(columns, shown), right={*numbers, "price"})
    for hit in answer.hits:
        table.add_row(*compress(_cells(hit, digits, is_ranked=is_ranked, explain=explain), shown))
    out.print(table)
    if answer.corrected_query:
        corrected = escape(repr(answer.corrected_query))
        out.print(f"[yellow]searched for {corrected}[/yellow] (--verbatim to search as typed)")
    for part in answer.understood:
        _print_understood(part, digits)
    if answer.searched_queries:
        searched = " and ".join(escape(repr(one)) for one in answer.searched_queries)
        turns = ", which take turns" if len(answer.searched_queries) > 1 else ""
        out.print(f"[yellow]searched for {searched}[/yellow]{turns} (--verbatim to search as typed)")
    others = [escape(repr(one)) for one in answer.alternative_queries if one not in answer.searched_queries]
    if others:
        out.print(f"did you mean {' or '.join(others)}?")
    if is_ranked:
        out.print(
            f"the top {answer.ranked_depth} candidates, ranked by the {_name(search_pb2.RankModel, answer.ranked_by)}: "
            "probabilities in %, 'was' is the rank before",
            highlight=False,
        )
    if answer.sorted_over == search_pb2.FACET_SCOPE_MATCHING:
        out.print(f"sorted: all {answer.total:,} products that match the query", highlight=False)
    elif answer.sorted_over == search_pb2.FACET_SCOPE_BEST and answer.hits:
        out.print(
            f"sorted: the {_total(answer)} that fit the query best; none was found by all its words", highlight=False
        )
    _print_degradations(answer.degradations)
    if answer.HasField("product_types") and (explain or answer.product_types.facets):
        print_types(answer.product_types)
    for facet in answer.facets:
        print_facet(facet)
    for warning in answer.warnings:
        out.print(f"[yellow]{escape(warning)}[/yellow]")
    phases = ", ".join(f"{p.name} {p.queue_ms + p.compute_ms:.1f}" for p in answer.timing.phases)
    out.print(
        f"{len(answer.hits)} hits in {elapsed_ms:.1f} ms, {_total(answer)} in all (server {answer.timing.total_ms:.1f}: {phases}), "
        f"bundle {answer.bundle_version}, request {answer.request_id}",
        highlight=False,
        style="dim",
    )


def print_facet(facet: search_pb2.Facet) -> None:
    """Prints the values of a facet with their counts, and over what they were counted."""
    unit = f" {facet.unit}" if facet.unit else ""
    values = ", ".join(f"{_facet_value(value)}{unit} {value.count:,}" for value in facet.values)
    over = OVER.get(facet.counted_over, "the best")
    out.print(f"[cyan]{escape(facet.name)}[/cyan] of {over} {facet.num_products:,}: {escape(values)}", highlight=False)


def _facet_value(value: search_pb2.FacetValue) -> str:
    if not value.HasField("range"):
        return value.value
    bounds = (f"{getattr(value.range, name):g}" if value.range.HasField(name) else "" for name in ("min", "max"))
    return "..".join(bounds)


def _total(answer: search_pb2.SearchResponse) -> str:
    return f"{answer.total:,}{'' if answer.total_meaning == search_pb2.TOTAL_MEANING_EXACT else '+'}"


def print_ranked(query: str, answer: ranking_pb2.RankResponse) -> None:
    """Prints the candidates, best first, with their probabilities."""
    is_explained = any(product.factors for product in answer.products)
    numbers = ("", *PROBABILITIES, "blend")
    table = _table(query, (*numbers, "product", *(("strongest features",) if is_explained else ())), right={*numbers})
    for product in answer.products:
        factors = (escape(_factors(product.factors)),) if is_explained else ()
        table.add_row(str(product.rank), *_probabilities(product), escape(product.product_id), *factors)
    out.print(table)
    out.print(
        f"ranked by the {_name(search_pb2.RankModel, answer.ranked_by)}: probabilities in %",
        highlight=False,
    )
    for product_id in answer.unknown_product_ids:
        out.print(f"[yellow]the catalogue has no {escape(product_id)}[/yellow]", highlight=False)
    unknown = sorted({name for product in answer.products for name in product.unknown_features})
    if unknown:
        out.print(f"[yellow]unknown outside the catalogue, so average: {', '.join(unknown)}[/yellow]", highlight=False)
    _print_degradations(answer.degradations)


def print_types(product_types: search_pb2.ProductTypes) -> None:
    """Prints the predicted types of the query, how they were used, and the hits of each category."""
    query = product_types.query
    names = "; ".join(f"{kind.type} {kind.probability:.2f}" for kind in query.types)
    prediction = f"not sure what it asks for ({names})" if query.abstained else f"asks for {names}"
    locale = f"in {query.locale_used}" if query.locale_used else "without a locale"
    use = _name(search_pb2.ProductTypeUse, product_types.used)
    out.print(f"[cyan]{escape(prediction)}[/cyan], read {locale}; used as {use}", highlight=False)
    if product_types.facets:
        facets = ", ".join(f"{facet.category} {facet.hits}" for facet in product_types.facets)
        out.print(f"hits by category: {escape(facets)}")


def print_query_types(pairs: Sequence[tuple[str, str]], predictions: Sequence[query_pb2.QueryTypes]) -> None:
    """Prints the prediction for each pair of a query and a locale."""
    table = Table(box=None)
    for column in ("query", "locale", "type", "probability", ""):
        table.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for (query, locale), prediction in zip(pairs, predictions, strict=True):
        remarks = ("not sure" * prediction.abstained, "" if prediction.locale_used else "read without a locale")
        first, last = (escape(query), escape(locale)), escape(", ".join(filter(None, remarks)))
        for kind in prediction.types or [query_pb2.TypeProbability()]:
            table.add_row(*first, escape(kind.type), f"{kind.probability:.2f}" if kind.type else "", last)
            first, last = ("", ""), ""
    out.print(table)


def print_comparison(
    query: str, shopper: str, plain: search_pb2.SearchResponse, personal: search_pb2.SearchResponse
) -> None:
    """Prints the result for everybody next to the shopper's, with the events that moved each hit of the latter."""
    used = personal.personalisation
    source = _name(search_pb2.PersonalisationSource, used.source)
    how = f"{source} history, {used.events} events" if used.strength else f"not personalised: {used.reason}"
    columns = ("", "everybody", shopper, "was", "because of")
    table = _table(f"{query!r} for {shopper} ({how})", columns, right={"", "was"}, quoted=False)
    ranks = {hit.product_id: hit.explanation.rank for hit in plain.hits}
    for plain_hit, hit in zip_longest(plain.hits, personal.hits):
        events = hit.explanation.moved_by[:2] if hit else ()
        before = ranks.get(hit.product_id) if hit else None
        table.add_row(
            str((hit or plain_hit).explanation.rank),
            _title(plain_hit),
            _title(hit),
            str(before) if before else "-" if hit else "",
            escape("; ".join(f"{_event(event)} ({event.gain:+.3f})" for event in events)),
        )
    out.print(table)


def _table(title: str, columns: Iterable[str], *, right: set[str], quoted: bool = True) -> Table:
    """Returns an empty table; the columns `right` are aligned there."""
    table = Table(title=escape(repr(title) if quoted else title), title_justify="left", box=None)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _cells(hit: search_pb2.Hit, digits: int, *, is_ranked: bool, explain: bool) -> tuple[str, ...]:
    product, why = hit.product, hit.explanation
    scores = (str(why.retrieval_rank), *_probabilities(hit)) if is_ranked else (f"{hit.score:.3f}",)
    stock = "" if not product.HasField("in_stock") or product.in_stock else " (out of stock)"
    price = f"{product.price_minor / 10**digits:,.{digits}f}" if product.HasField("price_minor") else ""
    reason = f"for {why.query!r}: " if why.query else ""
    reason += f"holds {', '.join(why.matched_identifiers)}; " if why.matched_identifiers else ""
    reason += f"similar {why.similarity:.2f}"
    reason += f", words {why.lexical_boost:+.2f}" if why.lexical_boost else ""
    reason += f", clicked {why.click_boost:+.2f}" if why.click_boost else ""
    reason += f", type {why.type_boost:+.2f}" if why.type_boost else ""
    reason += "".join(f", {name} {boost:+.2f}" for name, boost in sorted(why.boosts.items()))
    reason += f"; {_factors(why.rank_factors)}" if explain and why.rank_factors else ""
    return str(why.rank), *scores, escape(product.title + stock), escape(product.brand), price, escape(reason)


def _probabilities(ranked: search_pb2.Hit | ranking_pb2.RankedProduct) -> tuple[str, str, str, str]:
    """Returns click, cart and purchase in %, and the blend; empty if it was not ranked."""
    if not ranked.HasField("chances"):
        return "", "", "", ""
    p = ranked.chances
    return f"{100 * p.click:.1f}", f"{100 * p.cart:.2f}", f"{100 * p.purchase:.2f}", f"{ranked.blend:.3f}"


def _factors(factors: Sequence[search_pb2.RankFactor]) -> str:
    strongest = [factor for factor in factors if factor.contribution][:MAX_FACTORS]
    return ", ".join(f"{factor.feature} {factor.value:.2f} ({factor.contribution:+.3f})" for factor in strongest)


def _print_degradations(degradations: Iterable[search_pb2.Degradation]) -> None:
    for degradation in degradations:
        out.print(f"[yellow]{escape(degradation.part)}: {escape(degradation.reason)}[/yellow]")


def _name(enum: Any, value: int) -> str:
    """Returns the last word of an enum value's name, in lower case."""
    name: str = enum.Name(value)
    return name.rpartition("_")[2].lower()


def _title(hit: search_pb2.Hit | None) -> str:
    return escape(_short(hit.product.title, 44)) if hit else ""


def _event(event: search_pb2.MovedBy) -> str:
    kind = _name(shopper_pb2.EventKind, event.kind)
    return f"{kind} of {_short(event.title, 32)}" if event.title else f"{kind} after {event.query!r}"


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"
