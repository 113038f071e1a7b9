"""Answers of the service as tables, for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, zip_longest
from typing import Any

import grpc
from rich.markup import escape
from rich.table import Table

from aisle.v1 import info_pb2, info_pb2_grpc, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from models.products.currency import currency_digits
from serving.cli.terminal import out

CHANCES = ("click %", "cart %", "buy %")
WIDE = 120  # characters of a terminal that has room for all that is told of a ranked hit
MAX_FACTORS = 4  # shown of a hit


def currency_digits_of(channel: Any, metadata: tuple[tuple[str, str], ...]) -> int:
    """Minor digits of the service's prices; 2 where the key may not ask."""
    try:
        told = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=5, metadata=metadata)
    except grpc.RpcError:
        return 2
    return currency_digits(told.catalogue.currency)


def print_answer(query: str, answer: Any, elapsed_ms: float, digits: int, explain: bool = False) -> None:
    is_ranked = answer.ranked_by not in (search_pb2.RANK_MODEL_UNSPECIFIED, search_pb2.RANK_MODEL_NONE)
    table = Table(title=escape(repr(query)), title_justify="left", box=None)
    numbers = ("", "was", *CHANCES, "blend") if is_ranked else ("", "score")
    columns = (*numbers, "product", "brand", "price", "why")
    narrow = {"", "was", "buy %", "product", "price", "why" if explain else "brand"}
    shown = [not is_ranked or out.width >= WIDE or column in narrow for column in columns]
    for column in compress(columns, shown):
        table.add_column(column, justify="right" if column in (*numbers, "price") else "left", overflow="fold")
    for hit in answer.hits:
        product, why = hit.product, hit.explanation
        price = f"{product.price_minor / 10**digits:,.{digits}f}" if product.HasField("price_minor") else ""
        reason = f"similar {why.similarity:.2f}"
        if why.matched_identifiers:
            reason = f"holds {', '.join(why.matched_identifiers)}; " + reason
        reason += f", type {why.type_boost:+.2f}" if why.type_boost else ""
        reason += "".join(f", {name} {boost:+.2f}" for name, boost in sorted(why.boosts.items()))
        stock = "" if not product.HasField("in_stock") or product.in_stock else " (out of stock)"
        told = (str(why.retrieval_rank), *_chances(hit)) if is_ranked else (f"{hit.score:.3f}",)
        if explain and why.rank_factors:
            reason += f"; {_factors(why.rank_factors)}"
        row = (str(why.rank), *told, escape(product.title + stock), escape(product.brand), price, escape(reason))
        table.add_row(*compress(row, shown))
    out.print(table)
    if answer.corrected_query:
        out.print(
            f"[yellow]searched for {escape(repr(answer.corrected_query))}[/yellow] (--verbatim to search as typed)"
        )
    if is_ranked:
        by = search_pb2.RankModel.Name(answer.ranked_by).rpartition("_")[2].lower()
        out.print(
            f"the best {answer.ranked_depth} of the retrieval ranked by the {by}: chances in %, 'was' is the place before",
            highlight=False,
        )
    for less in answer.degradations:
        out.print(f"[yellow]{escape(less.part)}: {escape(less.reason)}[/yellow]")
    if answer.HasField("product_types") and (explain or answer.product_types.facets):
        print_types(answer.product_types)
    for warning in answer.warnings:
        out.print(f"[yellow]{escape(warning)}[/yellow]")
    phases = ", ".join(f"{p.name} {p.queue_ms + p.compute_ms:.1f}" for p in answer.timing.phases)
    out.print(
        f"{len(answer.hits)} hits in {elapsed_ms:.1f} ms (server {answer.timing.total_ms:.1f}: {phases}), "
        f"bundle {answer.bundle_version}, request {answer.request_id}",
        highlight=False,
        style="dim",
    )


def print_ranked(query: str, answer: ranking_pb2.RankResponse) -> None:
    """Candidates, best first, with the chances of each."""
    table = Table(title=escape(repr(query)), title_justify="left", box=None)
    is_explained = any(product.factors for product in answer.products)
    numbers = ("", *CHANCES, "blend")
    for column in (*numbers, "product", *(("what moved it",) if is_explained else ())):
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for product in answer.products:
        moved = (escape(_factors(product.factors)),) if is_explained else ()
        table.add_row(str(product.rank), *_chances(product), escape(product.product_id), *moved)
    out.print(table)
    by = search_pb2.RankModel.Name(answer.ranked_by).rpartition("_")[2].lower()
    out.print(f"ranked by the {by}: chances in %", highlight=False)
    for product_id in answer.unknown_product_ids:
        out.print(f"[yellow]the catalogue has no {escape(product_id)}[/yellow]", highlight=False)
    for unknown in sorted({name for product in answer.products for name in product.unknown_features}):
        out.print(f"[yellow]{unknown} is not known of a product that is only stated: it counts as average[/yellow]")
    for less in answer.degradations:
        out.print(f"[yellow]{escape(less.part)}: {escape(less.reason)}[/yellow]")


def _chances(ranked: search_pb2.Hit | ranking_pb2.RankedProduct) -> tuple[str, str, str, str]:
    """Click, cart and purchase in %, and the blend; empty where it was not ranked."""
    if not ranked.HasField("chances"):
        return "", "", "", ""
    chances = ranked.chances
    return (
        f"{100 * chances.click:.1f}",
        f"{100 * chances.cart:.2f}",
        f"{100 * chances.purchase:.2f}",
        f"{ranked.blend:.3f}",
    )


def _factors(factors: Sequence[search_pb2.RankFactor]) -> str:
    strongest = [one for one in factors if one.contribution][:MAX_FACTORS]
    return ", ".join(f"{one.feature} {one.value:.2f} ({one.contribution:+.3f})" for one in strongest)


def print_types(found: search_pb2.ProductTypes) -> None:
    """What the query asks for, what was done with it, and how the hits divide."""
    told = found.query
    names = "; ".join(f"{one.type} {one.probability:.2f}" for one in told.types)
    where = f"in {told.locale_used}" if told.locale_used else "without a locale"
    use = search_pb2.ProductTypeUse.Name(found.used).rpartition("_")[2].lower()
    said = f"not sure what it asks for ({names})" if told.abstained else f"asks for {names}"
    out.print(f"[cyan]{escape(said)}[/cyan], read {where}; used as {use}", highlight=False)
    if found.facets:
        out.print("hits by category: " + escape(", ".join(f"{one.category} {one.hits}" for one in found.facets)))


def print_query_types(asked: Sequence[tuple[str, str]], told: Sequence[query_pb2.QueryTypes]) -> None:
    table = Table(box=None)
    for column in ("query", "locale", "type", "probability", ""):
        table.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for (query, locale), one in zip(asked, told, strict=True):
        remark = "" if one.locale_used else "read without a locale"
        remark = ", ".join(filter(None, ["not sure" if one.abstained else "", remark]))
        for at, kind in enumerate(one.types or [query_pb2.TypeProbability()]):
            first = (escape(query), escape(locale), escape(remark)) if not at else ("", "", "")
            table.add_row(
                first[0], first[1], escape(kind.type), f"{kind.probability:.2f}" if kind.type else "", first[2]
            )
    out.print(table)


def print_comparison(
    query: str, shopper: str, plain: search_pb2.SearchResponse, moved: search_pb2.SearchResponse
) -> None:
    """The result that everybody gets beside the shopper's own, with the events that moved each hit of it."""
    known = moved.personalisation
    source = search_pb2.PersonalisationSource.Name(known.source).rpartition("_")[2].lower()
    how = f"{source} history, {known.events} events" if known.strength else f"not personalised: {known.reason}"
    table = Table(title=escape(f"{query!r} for {shopper} ({how})"), title_justify="left", box=None)
    for column, justify in (
        ("", "right"),
        ("everybody", "left"),
        (shopper, "left"),
        ("was", "right"),
        ("because of", "left"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    places = {hit.product_id: hit.explanation.rank for hit in plain.hits}
    for plain_hit, hit in zip_longest(plain.hits, moved.hits):
        why = hit.explanation.moved_by if hit else ()
        place = places.get(hit.product_id) if hit else None
        table.add_row(
            str((hit or plain_hit).explanation.rank),
            _title(plain_hit),
            _title(hit),
            str(place) if place else "-" if hit else "",
            escape("; ".join(f"{_event(event)} ({event.gain:+.3f})" for event in why[:2])),
        )
    out.print(table)


def _title(hit: search_pb2.Hit | None) -> str:
    return escape(_short(hit.product.title, 44)) if hit else ""


def _event(event: search_pb2.MovedBy) -> str:
    kind = shopper_pb2.EventKind.Name(event.kind).rpartition("_")[2].lower()
    return f"{kind} of {_short(event.title, 32)}" if event.title else f"{kind} after {event.query!r}"


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"
