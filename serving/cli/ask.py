"""The clients of a running service: search, rank, classify, record."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.markup import escape
from typer import Argument, Option

from serving.cli.options import ServiceOptions, as_command
from serving.cli.terminal import fail, out, progress_bars

if TYPE_CHECKING:
    from aisle.v1 import product_pb2, search_pb2

DEFAULT_AMONG = 10  # of --max-each-brand N

Query = Annotated[str, Argument(help="What a shopper would type.")]
Locale = Annotated[str, Option(help="Locale of the shopper, a BCP 47 tag such as en-GB.")]
Shopper = Annotated[str, Option(help="Id of the shopper.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingOptions:
    """How candidates are ordered."""

    model: Annotated[
        str,
        Option(
            "--rank",
            help="What orders the candidates: student (a small network, run with the retrieval), teacher (a cross-encoder that reranks the "
            "student's best) or none (the retrieval score). Default: as configured.",
        ),
    ] = ""
    weights: Annotated[
        str,
        Option(
            metavar="CLICK,CART,PURCHASE",
            help="Weights of the three probabilities, such as 1,4,16. Only their ratios count: 1,0,0 orders by the probability of a click, "
            "0,0,1 by that of a purchase.",
        ),
    ] = ""
    max_each_brand: Annotated[
        str,
        Option(
            metavar="N[/AMONG]",
            help=f"At most N products of one brand among the first AMONG hits, such as 2/24. AMONG is {DEFAULT_AMONG} by default.",
        ),
    ] = ""

    def rank_model(self) -> Any:
        from aisle.v1 import search_pb2

        return _enum_value("--rank", self.model, search_pb2.RankModel)

    def rank_weights(self) -> search_pb2.RankWeights | None:
        from aisle.v1 import search_pb2

        if not self.weights:
            return None
        try:
            click, cart, purchase = (float(part) for part in self.weights.split(","))
        except ValueError:
            fail(f"--weights {self.weights}: give three numbers, for a click, a cart and a purchase, such as 1,4,16")
        return search_pb2.RankWeights(click=click, cart=cart, purchase=purchase)

    def diversity(self, num_candidates: int | None = None) -> search_pb2.Diversity | None:
        """Returns the limit for each brand, which covers no more hits than there are candidates."""
        from aisle.v1 import search_pb2

        if not self.max_each_brand:
            return None
        most, _, among = self.max_each_brand.partition("/")
        try:
            limit = search_pb2.Diversity(max_each_brand=int(most), among=int(among) if among else DEFAULT_AMONG)
        except ValueError:
            fail(f"--max-each-brand {self.max_each_brand}: give one number, such as 2, or two, such as 2/24")
        if num_candidates is not None:
            limit.among = min(limit.among, num_candidates)
        return limit


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionOptions:
    """Which products, in which order, and what is counted of them."""

    where: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE",
            help="Only products with this keyword; of one name any of several. Also 'NAME>=LOW' and 'NAME<=HIGH' for numbers and dates "
            "(2024-05-31), and 'NAME==true' or 'NAME==false'. Repeatable.",
        ),
    ] = None
    facet: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Count the values of brand, category, price or an attribute. 'NAME~TEXT' counts those that contain a text, "
            "'NAME=LOW..HIGH,LOW..HIGH' counts ranges. Repeatable.",
        ),
    ] = None
    sort: Annotated[
        str,
        Option(
            metavar="[-]NAME",
            help="Order by price, popularity or an attribute that is a number, date or bool; '-' for the largest first, as in "
            "--sort=-price. With a query it orders the products that hold all its words or, where none does, those that fit best.",
        ),
    ] = ""
    group_by: Annotated[str, Option(help="Show one product for each value of this attribute.")] = ""

    def attribute_filters(self) -> list[product_pb2.AttributeFilter]:
        from aisle.v1 import product_pb2

        filters: dict[str, product_pb2.AttributeFilter] = {}
        for option in self.where or []:
            found = re.fullmatch(r"(.+?)(==|>=|<=|=)(.+)", option)
            if not found:
                fail(f"--where {option}: give NAME=VALUE, NAME>=LOW, NAME<=HIGH or NAME==true")
            name, sign, value = found.groups()
            one = filters.setdefault(name, product_pb2.AttributeFilter(name=name))
            if sign == "=":
                one.values.append(value)
            elif sign == "==":
                if value not in ("true", "false"):
                    fail(f"--where {option}: after == comes true or false")
                setattr(one, "is", value == "true")
            elif re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
                setattr(one, "from_date" if sign == ">=" else "to_date", value)
            else:
                setattr(one, "min" if sign == ">=" else "max", _number("--where", option, value))
        return list(filters.values())

    def facets(self) -> list[search_pb2.FacetRequest]:
        from aisle.v1 import search_pb2

        facets = []
        for option in self.facet or []:
            head, sign, tail = next((parts for sign in "~=" if (parts := option.partition(sign))[1]), (option, "", ""))
            facet = search_pb2.FacetRequest(name=head, value_text=tail if sign == "~" else "")
            for text in tail.split(",") if sign == "=" else ():
                low, dots, high = text.partition("..")
                if not dots:
                    fail(f"--facet {option}: give ranges as LOW..HIGH, such as 0..500,500..")
                facet.ranges.add(
                    min=_number("--facet", option, low) if low else None,
                    max=_number("--facet", option, high) if high else None,
                )
            facets.append(facet)
        return facets

    def order(self) -> search_pb2.Sort | None:
        from aisle.v1 import search_pb2

        if not self.sort:
            return None
        return search_pb2.Sort(by=self.sort.removeprefix("-"), descending=self.sort.startswith("-"))


@as_command
def search(
    *,
    query: Annotated[
        str, Argument(help="What a shopper would type; empty for all products of a filter or in an order.")
    ] = "",
    service: ServiceOptions,
    locale: Locale = "",
    shopper: Shopper = "",
    personalisation: Annotated[float, Option(help="Weight of the shopper's history, from 0 to 1.")] = 1.0,
    compare: Annotated[
        bool, Option("--compare", help="Show the result without personalisation next to the shopper's.")
    ] = False,
    relevant: Annotated[bool, Option("--relevant", help="Leave out hits that the model finds irrelevant.")] = False,
    boost: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=WEIGHT",
            help="Boost products by a static feature, such as popularity=0.2 or new=0.1. The weight, from -1 to 1, times the value of the "
            "feature is added to the similarity. Repeatable; 'aisle bundle show' lists the names.",
        ),
    ] = None,
    types: Annotated[
        str, Option(help="Use of the query's product types: off, facets, boost or filter. Default: as configured.")
    ] = "",
    ranking: RankingOptions,
    rank_depth: Annotated[int | None, Option(help="Number of candidates to rank. Default: as configured.")] = None,
    explain: Annotated[
        bool, Option("--explain", help="Also show product types and the features behind each rank.")
    ] = False,
    page_size: Annotated[int, Option(help="Number of hits.")] = 10,
    brand: Annotated[list[str] | None, Option(help="Only this brand. Repeatable.")] = None,
    category: Annotated[list[str] | None, Option(help="Only below this category path. Repeatable.")] = None,
    min_price: Annotated[int | None, Option(help="Lowest price, in minor units (cents).")] = None,
    max_price: Annotated[int | None, Option(help="Highest price, in minor units (cents).")] = None,
    in_stock: Annotated[bool, Option("--in-stock", help="Only products that can be bought now.")] = False,
    selection: SelectionOptions,
    verbatim: Annotated[bool, Option("--verbatim", help="Do not correct spelling.")] = False,
) -> None:
    """Searches a running service; shows the hits, why each was retrieved, and the time of each phase."""
    from aisle.v1 import product_pb2, search_pb2

    if compare and not shopper:
        fail("--compare needs --shopper: without a shopper both results are the same")
    product_filter = product_pb2.ProductFilter(
        brands=brand or (), categories=category or (), min_price_minor=min_price, max_price_minor=max_price,
        in_stock_only=in_stock, attributes=selection.attribute_filters()
    )  # fmt: skip
    request = search_pb2.SearchRequest(
        query=query, locale=locale, shopper_id=shopper, page_size=page_size, explain=True, verbatim=verbatim,
        filter=product_filter if product_filter.ByteSize() else None, personalisation=personalisation, relevant_only=relevant,
        boosts=_boosts(boost or []), product_types=_enum_value("--types", types, search_pb2.ProductTypeUse),
        rank_model=ranking.rank_model(), rank_depth=rank_depth, rank_weights=ranking.rank_weights(),
        diversity=ranking.diversity(), facets=selection.facets(), sort=selection.order(), group_by=selection.group_by
    )  # fmt: skip
    show_search(service, request, compare=compare, explain=explain)


def show_search(
    service: ServiceOptions, request: search_pb2.SearchRequest, *, compare: bool = False, explain: bool = False
) -> None:
    """Prints the hits of a request, with `compare` next to those that everybody gets."""
    from aisle.v1 import search_pb2_grpc
    from serving.cli.answers import currency_digits_of, print_answer, print_comparison
    from serving.cli.client import connected

    with connected(service) as connection:
        stub = search_pb2_grpc.SearchServiceStub(connection.channel)
        started = time.perf_counter()
        answer = connection.call(stub.Search, request)
        elapsed_ms = (time.perf_counter() - started) * 1000
        if compare:
            request.personalisation = 0
            print_comparison(request.query, request.shopper_id, connection.call(stub.Search, request), answer)
            return
        digits = currency_digits_of(connection.channel, connection.metadata)
    print_answer(request.query, answer, elapsed_ms, digits, explain)


@as_command
def rank(
    *,
    query: Query,
    product: Annotated[list[str] | None, Option(help="Id of a candidate in the catalogue. Repeatable.")] = None,
    title: Annotated[
        list[str] | None,
        Option(help="Title of a candidate that need not be in the catalogue: new-1, new-2, ... Repeatable."),
    ] = None,
    service: ServiceOptions,
    locale: Locale = "",
    shopper: Shopper = "",
    ranking: RankingOptions,
    explain: Annotated[bool, Option("--explain", help="Also show the strongest features of each candidate.")] = False,
) -> None:
    """Ranks candidates that you name by the probabilities that a shopper clicks, carts and buys them.

    It is for callers that retrieve candidates by themselves; 'aisle search' retrieves and ranks.

      aisle rank "wool rug" --product A-1001 --product A-1002 --explain
    """
    from aisle.v1 import product_pb2, ranking_pb2, ranking_pb2_grpc
    from serving.cli.answers import print_ranked
    from serving.cli.client import connected

    products, titles = product or [], title or []
    if not products and not titles:
        fail("name at least one candidate, with --product ID or --title TEXT")
    request = ranking_pb2.RankRequest(
        query=query, locale=locale, shopper_id=shopper, product_ids=products, model=ranking.rank_model(),
        products=[product_pb2.Product(id=f"new-{number}", title=text) for number, text in enumerate(titles, 1)],
        weights=ranking.rank_weights(), diversity=ranking.diversity(len(products) + len(titles)), explain=explain
    )  # fmt: skip
    with connected(service) as connection:
        answer = connection.call(ranking_pb2_grpc.RankingServiceStub(connection.channel).Rank, request)
    print_ranked(query, answer)


@as_command
def classify(
    *,
    queries: Annotated[list[str], Argument(help="What shoppers would type.")],
    service: ServiceOptions,
    locale: Annotated[
        list[str] | None, Option(help="Locale of the queries, a BCP 47 tag. Repeatable. Default: none.")
    ] = None,
    max_types: Annotated[int, Option(help="Number of product types for each query.")] = 3,
) -> None:
    """Asks a running service which product types queries ask for, for each locale."""
    from aisle.v1 import query_pb2, query_pb2_grpc
    from serving.cli.answers import print_query_types
    from serving.cli.client import connected

    pairs = [(query, name) for query in queries for name in locale or [""]]
    request = query_pb2.ClassifyRequest(
        queries=[query_pb2.LocaleQuery(query=query, locale=name) for query, name in pairs], max_types=max_types
    )
    with connected(service) as connection:
        answer = connection.call(query_pb2_grpc.QueryServiceStub(connection.channel).Classify, request)
    print_query_types(pairs, answer.results)


@as_command
def record(
    *,
    events: Annotated[
        Path, Argument(help="A shopping log: a folder of 'aisle import', or Parquet as models/events/event.py says.")
    ],
    service: ServiceOptions,
    shopper: Annotated[list[str] | None, Option(help="Only the events of this shopper. Repeatable.")] = None,
    as_of_now: Annotated[bool, Option("--as-of-now", help="Shift all times so that the last event is now.")] = False,
) -> None:
    """Records a log in a running service: the clicks, carts and purchases of identified shoppers. Repeating it changes nothing.

    A column request_id, if Parquet has one, says which answer of a search showed the product.
    """
    send_log(service, events, shopper or [], as_of_now)


def send_log(service: ServiceOptions, events: Path, shoppers: list[str], as_of_now: bool) -> None:
    """Sends a log and prints how many events were recorded and why others were not."""
    from serving.cli.client import connected
    from serving.cli.record_log import record_log

    if not events.exists():
        fail(f"there is no {events}")
    with connected(service) as connection, progress_bars() as progress:
        sent = record_log(connection.channel, connection.metadata, events, shoppers, as_of_now, progress)
    out.print(f"recorded {sent.recorded:,} events, {sent.duplicates:,} were known, {sent.refused:,} refused")
    for reason in sent.reasons:
        out.print(f"[yellow]refused[/yellow] {escape(reason)}", highlight=False)


def try_query(query: str, service: ServiceOptions, store: Path | None) -> None:
    """Shows the answer to a query, or the answers for the two busiest shoppers of a simulated store, whose log it records first."""
    from aisle.v1 import search_pb2
    from models.sample_store import EVENTS
    from serving.cli.record_log import busiest_shoppers

    shoppers = busiest_shoppers(store / EVENTS, 2) if store else []
    if store:
        send_log(service, store / EVENTS, [], as_of_now=True)
    for shopper in shoppers:
        request = search_pb2.SearchRequest(
            query=query, shopper_id=shopper, page_size=6, explain=True, personalisation=1
        )
        show_search(service, request, compare=True)
    if not shoppers:
        show_search(service, search_pb2.SearchRequest(query=query, page_size=10, explain=True, personalisation=1))
    command = sys.argv[0] if Path(sys.argv[0]).name == "aisle" else "aisle"
    who = f" --shopper {shoppers[0]} --compare" if shoppers else ""
    out.print(
        f'\nsearch again with: {command} search "{query}"{who} --server {service.server}',
        highlight=False,
        soft_wrap=True,
    )


def _number(option: str, given: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        fail(f"{option} {given}: {text!r} is no number")


def _boosts(options: list[str]) -> dict[str, float]:
    boosts = {}
    for option in options:
        name, _, weight = option.partition("=")
        try:
            boosts[name] = float(weight)
        except ValueError:
            fail(f"--boost {option}: say how much, as in --boost {name or 'popularity'}=0.2")
    return boosts


def _enum_value(option: str, name: str, enum: Any) -> Any:
    """Returns the value of a proto enum for the last word of its name in lower case, and UNSPECIFIED for an empty name."""
    values = {key.rpartition("_")[2].lower(): enum.Value(key) for key in enum.keys()[1:]}
    if name and name not in values:
        fail(f"{option} {name}: choose one of {', '.join(values)}")
    return values.get(name, 0)
