"""Answers of the service as tables, for people at a terminal."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import grpc
from rich.markup import escape
from rich.table import Table

from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, shopper_pb2
from models.catalogue import currency_digits
from serving.terminal import out


def currency_digits_of(channel: Any, metadata: tuple[tuple[str, str], ...]) -> int:
    """Minor digits of the service's prices; 2 where the key may not ask."""
    try:
        told = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=5, metadata=metadata)
    except grpc.RpcError:
        return 2
    return currency_digits(told.catalogue.currency)


def print_answer(query: str, answer: Any, elapsed_ms: float, digits: int) -> None:
    table = Table(title=escape(repr(query)), title_justify="left", box=None)
    for column in ("", "score", "product", "brand", "price", "why"):
        table.add_column(column, justify="right" if column in ("", "score", "price") else "left", overflow="fold")
    for hit in answer.hits:
        product, why = hit.product, hit.explanation
        price = f"{product.price_minor / 10**digits:,.{digits}f}" if product.HasField("price_minor") else ""
        reason = f"similar {why.similarity:.2f}"
        if why.matched_identifiers:
            reason = f"holds {', '.join(why.matched_identifiers)}; " + reason
        reason += "".join(f", {name} {boost:+.2f}" for name, boost in sorted(why.boosts.items()))
        stock = "" if not product.HasField("in_stock") or product.in_stock else " (out of stock)"
        table.add_row(
            str(why.rank),
            f"{hit.score:.3f}",
            escape(product.title + stock),
            escape(product.brand),
            price,
            escape(reason),
        )
    out.print(table)
    if answer.corrected_query:
        out.print(
            f"[yellow]searched for {escape(repr(answer.corrected_query))}[/yellow] (--verbatim to search as typed)"
        )
    for warning in answer.warnings:
        out.print(f"[yellow]{escape(warning)}[/yellow]")
    phases = ", ".join(f"{p.name} {p.queue_ms + p.compute_ms:.1f}" for p in answer.timing.phases)
    out.print(
        f"{len(answer.hits)} hits in {elapsed_ms:.1f} ms (server {answer.timing.total_ms:.1f}: {phases}), "
        f"bundle {answer.bundle_version}, request {answer.request_id}",
        highlight=False,
        style="dim",
    )


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
