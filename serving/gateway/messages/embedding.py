"""The messages of EmbeddingService."""

from __future__ import annotations

from dataclasses import dataclass

from aisle.v1 import embedding_pb2
from models.arrays import Floats
from models.bundles.manifest import Manifest
from models.events.event import Event
from models.products.product import Product
from models.text_encoder.encoder import matryoshka_prefix
from models.text_encoder.spec import Text
from serving.config import LimitsConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import check_optional_shopper, refuse_unknown
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.products import read_product


@dataclass(frozen=True, slots=True)
class Texts:
    """What to encode, and how many dimensions to answer with."""

    texts: list[Text]
    dimensions: int


@dataclass(frozen=True, slots=True)
class Products:
    """What to encode, and how many dimensions to answer with."""

    products: list[Product]
    dimensions: int


class EmbeddingMessages:
    """Translates for one served bundle."""

    def __init__(self, manifest: Manifest, limits: LimitsConfig, *, fields: RequestFields) -> None:
        self.version = manifest.version
        self.dim = manifest.dim
        self._manifest = manifest
        self._max_items = limits.max_embed_items
        self._fields = fields

    def read_queries(self, request: embedding_pb2.EmbedQueriesRequest) -> Texts:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        locale = self._fields.read_locale(request.locale, violations)
        self._fields.check_item_count("queries", len(request.queries), violations)
        texts = [
            Text(self._fields.read_query(query, f"queries[{n}]", violations), locale=locale)
            for n, query in enumerate(request.queries[: self._max_items])
        ]
        dimensions = self._read_dimensions(request, violations)
        if violations:
            raise InvalidRequest(*violations)
        return Texts(texts, dimensions)

    def read_products(self, request: embedding_pb2.EmbedProductsRequest) -> Products:
        """Raises InvalidRequest."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        self._fields.check_item_count("products", len(request.products), violations)
        products = [
            read_product(message, f"products[{n}]", violations)
            for n, message in enumerate(request.products[: self._max_items])
        ]
        dimensions = self._read_dimensions(request, violations)
        if violations:
            raise InvalidRequest(*violations)
        return Products(products, dimensions)

    def read_shopper(self, request: embedding_pb2.EmbedShopperRequest) -> tuple[str, tuple[Event, ...]]:
        """Returns the shopper's id, and the events to use instead of the stored ones. Raises InvalidRequest."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        check_optional_shopper(request.shopper_id, violations)
        events = self._fields.read_recent_events(request.recent_events, violations)
        if not request.shopper_id and not request.recent_events:
            violations.append(Violation("shopper_id", "must not be empty where there are no recent_events either"))
        _check_encoding(request.encoding, violations)
        if violations:
            raise InvalidRequest(*violations)
        return request.shopper_id, events

    def _read_dimensions(
        self,
        request: embedding_pb2.EmbedQueriesRequest | embedding_pb2.EmbedProductsRequest,
        violations: list[Violation],
    ) -> int:
        offered = self._manifest.encoder["dimensions"]
        dimensions = request.dimensions if request.HasField("dimensions") else self.dim
        if dimensions not in offered:
            violations.append(Violation("dimensions", f"is {dimensions}; offered are {', '.join(map(str, offered))}"))
        _check_encoding(request.encoding, violations)
        return dimensions


def _check_encoding(encoding: int, violations: list[Violation]) -> None:
    if encoding not in embedding_pb2.VectorEncoding.values():
        violations.append(Violation("encoding", f"is {encoding}, which this server does not know"))


def write_vectors(
    vectors: Floats, dimensions: int, encoding: embedding_pb2.VectorEncoding.ValueType
) -> embedding_pb2.Vectors:
    """Returns unit vectors (rows, dim) cut to the requested dimensions, in the requested encoding."""
    is_float16 = encoding == embedding_pb2.VECTOR_ENCODING_FLOAT16
    cut = matryoshka_prefix(vectors, dimensions)
    return embedding_pb2.Vectors(
        data=cut.astype("<f2" if is_float16 else "<f4").tobytes(),
        rows=len(cut),
        dimensions=dimensions,
        encoding=embedding_pb2.VECTOR_ENCODING_FLOAT16 if is_float16 else embedding_pb2.VECTOR_ENCODING_FLOAT32,
    )
