"""The messages of QueryService."""

from __future__ import annotations

from collections.abc import Sequence

from aisle.v1 import query_pb2
from models.query_types.type_model import TypePrediction
from serving.compute.query_typer import MAX_TYPES, TypeQuestion
from serving.config import LimitsConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import refuse_unknown
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.type_fields import write_prediction

DEFAULT_TYPES = 3
MAX_LOCALE_CHARS = 35  # RFC 5646 wants every reader of tags to take as many


class QueryMessages:
    """Translates for one served bundle."""

    def __init__(self, version: str, limits: LimitsConfig, *, fields: RequestFields) -> None:
        self._version = version
        self._max_items = limits.max_embed_items
        self._fields = fields

    def read(self, request: query_pb2.ClassifyRequest) -> TypeQuestion:
        """Raises InvalidRequest. The classifier reads locales that the catalogue does not serve, too."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        self._fields.check_item_count("queries", len(request.queries), violations)
        max_types = request.max_types if request.HasField("max_types") else DEFAULT_TYPES
        if not 1 <= max_types <= MAX_TYPES:
            violations.append(Violation("max_types", f"is {max_types}; it must be 1 to {MAX_TYPES}"))
        queries = []
        for n, message in enumerate(request.queries[: self._max_items]):
            refuse_unknown(message, f"queries[{n}].", violations)
            if len(message.locale) > MAX_LOCALE_CHARS:
                what = f"has {len(message.locale)} characters; at most {MAX_LOCALE_CHARS}"
                violations.append(Violation(f"queries[{n}].locale", what))
            query = self._fields.read_query(message.query, f"queries[{n}].query", violations)
            queries.append((query, message.locale))
        if violations:
            raise InvalidRequest(*violations)
        return TypeQuestion(tuple(queries), max_types)

    def write(self, predictions: Sequence[TypePrediction]) -> query_pb2.ClassifyResponse:
        """Returns the answer without its request id."""
        return query_pb2.ClassifyResponse(results=map(write_prediction, predictions), bundle_version=self._version)
