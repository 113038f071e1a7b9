"""What the command line says of ranking: the options of `aisle search`, and `aisle rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.terminal import fail

DEFAULT_AMONG = 10  # of --max-each-brand N

RankOption = Annotated[
    str,
    typer.Option(
        "--rank",
        help="What orders the candidates: student (a small network, with the retrieval), teacher (a cross-encoder that reads the words "
        "of the student's best again) or none (the retrieval's score). Default: what the service is configured for.",
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        metavar="CLICK,CART,PURCHASE",
        help="What each is worth, as 1,4,16. Only the ratios count: 1,0,0 orders by the chance of a click, 0,0,1 by that of a purchase.",
    ),
]
DiversityOption = Annotated[
    str,
    typer.Option(
        metavar="N[/AMONG]",
        help=f"At most N products of one brand among the first hits: 2/24 for two among 24; AMONG is {DEFAULT_AMONG} unless stated.",
    ),
]


def rank_model(option: str) -> Any:
    """Of --rank."""
    from aisle.v1 import search_pb2

    if not option:
        return search_pb2.RANK_MODEL_UNSPECIFIED
    known = [name.rpartition("_")[2].lower() for name in search_pb2.RankModel.keys()[1:]]
    if option not in known:
        fail(f"--rank {option}: it may be {', '.join(known)}")
    return search_pb2.RankModel.Value(f"RANK_MODEL_{option.upper()}")


def rank_weights(option: str) -> Any:
    """Of --weights; None where it is not given."""
    from aisle.v1 import search_pb2

    if not option:
        return None
    try:
        click, cart, purchase = (float(part) for part in option.split(","))
    except ValueError:
        fail(f"--weights {option}: give three numbers, for a click, a cart and a purchase, as 1,4,16")
    return search_pb2.RankWeights(click=click, cart=cart, purchase=purchase)


def diversity(option: str) -> Any:
    """Of --max-each-brand; None where it is not given."""
    from aisle.v1 import search_pb2

    if not option:
        return None
    most, _, among = option.partition("/")
    try:
        return search_pb2.Diversity(max_each_brand=int(most), among=int(among) if among else DEFAULT_AMONG)
    except ValueError:
        fail(f"--max-each-brand {option}: give a number, as 2, or two, as 2/24")


def rank(
    query: Annotated[str, typer.Argument(help="What the shopper typed.")],
    product: Annotated[
        list[str] | None, typer.Option(help="Id of a candidate in the served catalogue; repeat it.")
    ] = None,
    title: Annotated[
        list[str] | None,
        typer.Option(
            help="Title of a candidate that the catalogue need not hold; repeat it. It is called new-1, new-2, ..."
        ),
    ] = None,
    server: Annotated[str, typer.Option(help="Where the service listens, as host:port.")] = "127.0.0.1:9000",
    locale: Annotated[str, typer.Option(help="BCP 47 tag.")] = "",
    shopper: Annotated[str, typer.Option(help="The shopper's id.")] = "",
    model: RankOption = "",
    weights: WeightsOption = "",
    max_each_brand: DiversityOption = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show what moved each candidate, the strongest first.")
    ] = False,
    api_key: Annotated[str, typer.Option(envvar="AISLE_API_KEY", help="API key, if the service wants one.")] = "",
    ca: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CA certificate of a TLS service.")
    ] = None,
) -> None:
    """Asks a running service how likely a shopper clicks, carts and buys the candidates that you name, and ranks them.

    For callers that find candidates by themselves: 'aisle search' does both.

      aisle rank "velvet sofa" --product A-1001 --product A-1002 --explain
    """
    import grpc

    from aisle.client import ClientTls, connect
    from aisle.v1 import product_pb2, ranking_pb2, ranking_pb2_grpc
    from serving.cli.answers import print_ranked

    if not product and not title:
        fail("name at least one candidate, with --product ID or --title TEXT")
    request = ranking_pb2.RankRequest(
        query=query, locale=locale, shopper_id=shopper, product_ids=product or (), model=rank_model(model),
        products=[product_pb2.Product(id=f"new-{n}", title=text) for n, text in enumerate(title or (), 1)],
        weights=rank_weights(weights), diversity=_within(diversity(max_each_brand), len(product or ()) + len(title or ())),
        explain=explain,
    )  # fmt: skip
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    with connect(server, ClientTls(ca, None, None) if ca else None) as channel:
        try:
            answer = ranking_pb2_grpc.RankingServiceStub(channel).Rank(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            hint = f"; is there a service on {server}?" if error.code() is grpc.StatusCode.UNAVAILABLE else ""
            fail(f"{error.code().name}: {error.details()}{hint}")
    print_ranked(query, answer)


def _within(wanted: Any, count: int) -> Any:
    if wanted is not None:
        wanted.among = min(wanted.among, count)
    return wanted
