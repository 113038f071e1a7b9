"""Product types of queries: the fields that say what a search does with them, and the predictions in answers."""

from __future__ import annotations

from aisle.v1 import query_pb2, search_pb2
from models.query_types.type_model import TypePrediction
from serving.config import TypesConfig
from serving.errors import Violation
from serving.search.request import TypeUse
from serving.search.results import Results

TYPE_USES = {
    search_pb2.PRODUCT_TYPE_USE_OFF: TypeUse.OFF,
    search_pb2.PRODUCT_TYPE_USE_FACETS: TypeUse.FACETS,
    search_pb2.PRODUCT_TYPE_USE_BOOST: TypeUse.BOOST,
    search_pb2.PRODUCT_TYPE_USE_FILTER: TypeUse.FILTER,
}
TYPE_USE_NUMBERS = {use: number for number, use in TYPE_USES.items()}


def read_type_use(
    request: search_pb2.SearchRequest, types: TypesConfig | None, violations: list[Violation]
) -> tuple[TypeUse, float]:
    """Returns what the search does with the query's types, and the boost of a product per unit of a type's probability: 0 unless
    the use is BOOST or FILTER. `types` is None if the bundle holds no classifier."""
    number = request.product_types
    use = TYPE_USES.get(number)
    if number == search_pb2.PRODUCT_TYPE_USE_UNSPECIFIED:
        use = TypeUse(types.use) if types else TypeUse.OFF
    elif use is None:
        violations.append(Violation("product_types", f"is {number}; it must be one of ProductTypeUse"))
    elif use is not TypeUse.OFF and not types:
        violations.append(Violation("product_types", "must be unset or OFF: the served bundle holds no classifier"))
    boost = types.boost if types else 0.0
    if request.HasField("product_type_boost"):
        boost = request.product_type_boost
        if not 0 <= boost <= 1:  # a NaN too
            violations.append(Violation("product_type_boost", f"is {boost:g}; it must be 0 to 1"))
    return use or TypeUse.OFF, boost if use in (TypeUse.BOOST, TypeUse.FILTER) else 0.0


def write_types(response: search_pb2.SearchResponse, results: Results) -> None:
    if results.type_use is TypeUse.OFF:  # not classified, or for the ranker alone
        return
    response.product_types.query.CopyFrom(write_prediction(results.prediction))
    response.product_types.used = TYPE_USE_NUMBERS[results.type_use]
    for category, hits in results.type_facets:
        response.product_types.facets.add(category=category, hits=hits)


def write_prediction(prediction: TypePrediction) -> query_pb2.QueryTypes:
    return query_pb2.QueryTypes(
        types=[query_pb2.TypeProbability(type=name, probability=probability) for name, probability in prediction.types],
        abstained=prediction.abstained,
        locale_used=prediction.locale_used,
    )
