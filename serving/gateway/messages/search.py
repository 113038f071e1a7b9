"""The door: protos in, frozen dataclasses out, and back. Nothing else in `serving` reads or writes a request's proto.

Every rule of a request is checked here, and all violations of one request are reported together.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from aisle.v1 import embedding_pb2, info_pb2, product_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from models.arrays import Floats
from models.bundles.manifest import Manifest
from models.events.event import Event, EventKind
from models.products.product import MAX_ID_CHARS, Product, product_text
from models.products.product_table import ATTRIBUTE, CORE_FIELDS, ProductTable
from models.products.text import clean_text
from models.query_types.type_model import TypePrediction
from models.text_encoder.encoder import cut_to
from models.text_encoder.spec import Text
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.compute.order import Ranking
from serving.compute.query_typer import MAX_TYPES, TypeQuestion
from serving.config import LimitsConfig, RankerConfig, TypesConfig
from serving.errors import InvalidRequest, StaleVersion, Violation
from serving.gateway.messages.ranking_fields import (
    MODEL_NUMBERS,
    RankingFields,
    write_factors,
    write_lesser,
    write_told,
)
from serving.search.personaliser import Gain
from serving.search.pipeline import PhaseTime, Results, Search
from serving.search.shopper_vectors import Shopper, Source
from serving.search.type_use import TypeFinding, TypeUse
from serving.stages.stage import Stage

MAX_SHOPPER_ID_CHARS = 128
MAX_LOCALE_CHARS = 35  # what RFC 5646 wants every reader of tags to take
MAX_FILTER_VALUES = 64
MAX_FILTER_CHARS = 256
MAX_TITLE_CHARS = 2000
MAX_TEXT_CHARS = 20_000
MAX_UNKNOWN_FIELDS = 32  # named in one refusal
MAX_KEPT_BYTES = 32 * 1024**2  # of finished product messages
_TOKEN = struct.Struct("<I")  # offset
_MAC_BYTES = 12
KIND_NUMBERS = {
    EventKind.IMPRESSION: shopper_pb2.EVENT_KIND_IMPRESSION,
    EventKind.CLICK: shopper_pb2.EVENT_KIND_CLICK,
    EventKind.CART: shopper_pb2.EVENT_KIND_CART,
    EventKind.PURCHASE: shopper_pb2.EVENT_KIND_PURCHASE,
}
_SOURCES = {
    Source.NONE: search_pb2.PERSONALISATION_SOURCE_NONE,
    Source.STORED: search_pb2.PERSONALISATION_SOURCE_STORED,
    Source.REQUEST: search_pb2.PERSONALISATION_SOURCE_REQUEST,
}
TYPE_USES = {
    search_pb2.PRODUCT_TYPE_USE_OFF: TypeUse.OFF,
    search_pb2.PRODUCT_TYPE_USE_FACETS: TypeUse.FACETS,
    search_pb2.PRODUCT_TYPE_USE_BOOST: TypeUse.BOOST,
    search_pb2.PRODUCT_TYPE_USE_FILTER: TypeUse.FILTER,
}
TYPE_USE_NUMBERS = {use: number for number, use in TYPE_USES.items()}

# Events of a request, what to call them, where violations go.
ReadEvents = Callable[[Sequence[shopper_pb2.Event], str, list[Violation]], tuple[Event, ...]]


@dataclass(frozen=True, slots=True)
class SearchCall:
    """A valid SearchRequest: what to search, and how to answer."""

    search: Search
    fields: tuple[str, ...]
    explain: bool
    warnings: tuple[str, ...]
    digest: bytes  # of all that a next page must repeat


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for what: the fields that Search and Rank share."""

    query: str
    locale: str
    shopper_id: str
    events: tuple[Event, ...]
    strength: float


class Messages:
    """Translates for one served bundle."""

    def __init__(
        self,
        manifest: Manifest,
        limits: LimitsConfig,
        products: ProductTable,
        masks: FilterMasks,
        read_events: ReadEvents | None = None,
        relevance_threshold: float | None = None,
        types: TypesConfig | None = None,
        ranking: RankingFields | None = None,
    ) -> None:
        """`relevance_threshold` is the similarity that the bundle's model learned, if it did; `types` are for a bundle that holds a
        classifier, `ranking` for one that holds a ranker."""
        self._types = types
        self._ranking = ranking or RankingFields(limits, RankerConfig())
        self._manifest = manifest
        self._read_events = read_events
        self.relevance_threshold = relevance_threshold
        self._limits = limits
        self._products = products
        self._masks = masks
        self._fields = products.fields
        self._made: dict[tuple[int, tuple[str, ...]], product_pb2.Product] = {}
        self._made_bytes = 0
        self._locales = {locale.casefold(): locale for locale in manifest.locales}
        self._token_key = hashlib.sha256(f"aisle page token {manifest.version}".encode()).digest()

    def read_search(self, request: search_pb2.SearchRequest) -> SearchCall:
        """Raises InvalidRequest with every violation, StaleVersion for a page token of another index."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        asker = self.read_asker(request, wrong)
        page_size = request.page_size if request.HasField("page_size") else self._limits.default_page_size
        if not 1 <= page_size <= self._limits.max_page_size:
            wrong.append(Violation("page_size", f"is {page_size}; it must be 1 to {self._limits.max_page_size}"))
        wanted = self._filter(request.filter, wrong) if request.HasField("filter") else NO_FILTER
        fields = self._product_fields(request.product_fields, wrong)
        min_similarity = self._min_similarity(request, wrong)
        boosts = self._boosts(request.boosts, wrong)
        type_use, type_boost = self._type_use(request, wrong)
        refuse_unknown(request.rank_weights, "rank_weights.", wrong)
        refuse_unknown(request.diversity, "diversity.", wrong)
        ranking = self._ranking.of_search(request, wrong, has_boosts=bool(boosts))
        digest = _digest(asker.query, request, wanted, boosts, (type_use, type_boost), ranking)
        offset = self._offset(request.page_token, digest, wrong) if request.page_token else 0
        if wrong:
            raise InvalidRequest(*wrong)
        return SearchCall(
            Search(
                asker.query,
                page_size,
                offset,
                wanted,
                request.verbatim,
                asker.locale,
                asker.shopper_id,
                asker.events,
                asker.strength,
                min_similarity,
                request.explain,
                boosts,
                type_use,
                type_boost,
                ranking,
            ),
            fields,
            request.explain,
            self._warnings(wanted) + self._ranking.warnings(request, ranking),
            digest,
        )

    def read_asker(self, request: search_pb2.SearchRequest | ranking_pb2.RankRequest, wrong: list[Violation]) -> Caller:
        query = self._query(request.query, "query", wrong)
        self._locale(request.locale, wrong)
        _check_shopper(request.shopper_id, wrong)
        events = self._events(request.recent_events, wrong)
        strength = request.personalisation if request.HasField("personalisation") else 1.0
        if not 0 <= strength <= 1:  # also of a NaN
            wrong.append(Violation("personalisation", f"is {strength:g}; it must be 0 to 1"))
        locale = self._locales.get(request.locale.casefold(), self._manifest.locales[0])
        return Caller(query, locale, request.shopper_id, events, strength)

    def write_search(self, call: SearchCall, results: Results) -> search_pb2.SearchResponse:
        """The answer, but for what only the gateway knows (request id, total time)."""
        response = search_pb2.SearchResponse(
            bundle_version=self._manifest.version,
            index_version=self._manifest.version,
            warnings=call.warnings,
            corrected_query=results.corrected_query,
        )
        found, ranked = results.candidates, results.ranked
        told = ranked.told(results.first, results.stop) if ranked else []
        for at in range(results.first, results.stop):
            row = found.rows[at]
            product = self._product(row, call.fields)
            hit = response.hits.add(product_id=product.id, score=found.scores[at], product=product)
            if at < results.first + len(told):
                write_told(hit, told[at - results.first])
            if call.explain:
                explanation = hit.explanation
                explanation.similarity = found.similarities[at]
                explanation.identifier_boost = found.identifier_boosts[at]
                explanation.type_boost = found.type_boosts[at] if found.type_boosts else 0.0
                for name, boost in zip(self._manifest.boosts, found.feature_boosts[at], strict=False):
                    if boost:
                        explanation.boosts[name] = boost
                explanation.matched_identifiers.extend(found.matched.get(row, ()))
                explanation.rank = at + 1
                explanation.retrieval_rank = int(ranked.order[at]) + 1 if ranked else at + 1
                if row in results.factors:
                    write_factors(explanation.rank_factors, results.factors[row])
                if gain := results.gains.get(row):
                    self._write_gain(explanation, gain)
        if results.has_more:
            response.next_page_token = self._page_token(results.stop, call.digest)
        write_shopper(response, results.shopper, call.search.personalisation)
        _write_types(response, results.types, call.search.type_use)
        if ranked:
            response.ranked_by = MODEL_NUMBERS[ranked.by]
            response.ranked_depth = len(ranked.chances)
            write_lesser(response, ranked.lesser)
        write_phases(response.timing, results.phases)
        return response

    def _write_gain(self, explanation: search_pb2.Explanation, gain: Gain) -> None:
        explanation.personal_gain = gain.total
        for event, share in gain.by_event:
            row = self._products.row_of(event.product_id)
            explanation.moved_by.add(
                event_id=event.id,
                kind=KIND_NUMBERS[event.kind],
                product_id=event.product_id if row is not None else "",
                title=self._products.string("title", row) if row is not None else "",
                query=event.query,
                gain=share,
            )

    def _events(self, messages: Sequence[shopper_pb2.Event], wrong: list[Violation]) -> tuple[Event, ...]:
        if not messages:
            return ()
        if len(messages) > self._limits.max_recent_events:
            what = f"has {len(messages)} events; at most {self._limits.max_recent_events}"
            wrong.append(Violation("recent_events", what))
            return ()
        return self._read_events(messages, "recent_events", wrong) if self._read_events else ()

    def _min_similarity(self, request: search_pb2.SearchRequest, wrong: list[Violation]) -> float:
        stated = request.HasField("min_similarity")
        if stated and not -1 <= request.min_similarity <= 1:
            wrong.append(Violation("min_similarity", f"is {request.min_similarity:g}; it must be -1 to 1"))
        if request.relevant_only:
            if stated:
                wrong.append(
                    Violation("relevant_only", "cannot go with min_similarity: one of them sets the threshold")
                )
            if self.relevance_threshold is None:
                wrong.append(
                    Violation("relevant_only", "the served bundle's model learned no threshold; use min_similarity")
                )
            return self.relevance_threshold or 0.0
        return request.min_similarity if stated else -math.inf

    def _boosts(self, stated: Mapping[str, float], wrong: list[Violation]) -> tuple[float, ...]:
        """Weights in the order of the bundle's boosts; none where all are 0, which is as if none was stated."""
        known = self._manifest.boosts
        if stated and not known:
            wrong.append(Violation("boosts", "must be empty: the served bundle has no boosts"))
            return ()
        bad = [name for name, weight in stated.items() if name not in known or not -1 <= weight <= 1]  # also a NaN
        for name in sorted(bad)[:MAX_UNKNOWN_FIELDS]:
            what = f"is {stated[name]:g}; it must be -1 to 1"
            if name not in known:
                what = f"is unknown; known are {', '.join(known)}"
            wrong.append(Violation(f"boosts[{json.dumps(name[:80], ensure_ascii=False)}]", what))
        weights = tuple(stated.get(name, 0.0) for name in known)
        return weights if any(weights) else ()

    def _type_use(self, request: search_pb2.SearchRequest, wrong: list[Violation]) -> tuple[TypeUse, float]:
        """What becomes of the query's types, and what a boost or filter weighs them with; of the other uses the weight is 0."""
        stated = request.product_types
        use = TYPE_USES.get(stated)
        if stated == search_pb2.PRODUCT_TYPE_USE_UNSPECIFIED:
            use = TypeUse(self._types.use) if self._types else TypeUse.OFF
        elif use is None:
            wrong.append(Violation("product_types", f"is {stated}; it must be one of ProductTypeUse"))
        elif use is not TypeUse.OFF and not self._types:
            wrong.append(Violation("product_types", "must be unset or OFF: the served bundle holds no classifier"))
        weight = self._types.boost if self._types else 0.0
        if request.HasField("product_type_boost"):
            weight = request.product_type_boost
            if not 0 <= weight <= 1:  # also of a NaN
                wrong.append(Violation("product_type_boost", f"is {weight:g}; it must be 0 to 1"))
        return use or TypeUse.OFF, weight if use in (TypeUse.BOOST, TypeUse.FILTER) else 0.0

    def read_classify(self, request: query_pb2.ClassifyRequest) -> TypeQuestion:
        """Raises InvalidRequest."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        self._item_count("queries", len(request.queries), wrong)
        most = request.max_types if request.HasField("max_types") else 3
        if not 1 <= most <= MAX_TYPES:
            wrong.append(Violation("max_types", f"is {most}; it must be 1 to {MAX_TYPES}"))
        queries = []
        for n, message in enumerate(request.queries[: self._limits.max_embed_items]):
            refuse_unknown(message, f"queries[{n}].", wrong)
            if len(message.locale) > MAX_LOCALE_CHARS:
                what = f"has {len(message.locale)} characters; at most {MAX_LOCALE_CHARS}"
                wrong.append(Violation(f"queries[{n}].locale", what))
            queries.append((self._query(message.query, f"queries[{n}].query", wrong), message.locale))
        if wrong:
            raise InvalidRequest(*wrong)
        return TypeQuestion(tuple(queries), most)

    def read_shopper(self, request: embedding_pb2.EmbedShopperRequest) -> tuple[str, tuple[Event, ...]]:
        """The shopper's id, and the events to read instead of what is stored. Raises InvalidRequest."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        _check_shopper(request.shopper_id, wrong)
        events = self._events(request.recent_events, wrong)
        if not request.shopper_id and not request.recent_events:
            wrong.append(Violation("shopper_id", "must not be empty where there are no recent_events either"))
        self._encoding(request.encoding, wrong)
        if wrong:
            raise InvalidRequest(*wrong)
        return request.shopper_id, events

    def read_queries(self, request: embedding_pb2.EmbedQueriesRequest) -> tuple[list[Text], int]:
        """The texts and the dimensions to answer with."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        self._locale(request.locale, wrong)
        self._item_count("queries", len(request.queries), wrong)
        locale = self._locales.get(request.locale.casefold(), self._manifest.locales[0])
        texts = [
            Text(self._query(query, f"queries[{n}]", wrong), locale=locale)
            for n, query in enumerate(request.queries[: self._limits.max_embed_items])
        ]
        dimensions = self._dimensions(request, wrong)
        if wrong:
            raise InvalidRequest(*wrong)
        return texts, dimensions

    def read_products(self, request: embedding_pb2.EmbedProductsRequest) -> tuple[list[Text], int]:
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        self._item_count("products", len(request.products), wrong)
        texts = []
        for n, message in enumerate(request.products[: self._limits.max_embed_items]):
            product = read_product(message, f"products[{n}]", wrong)
            texts.append(Text(product_text(product, self._manifest.text_attributes), "product"))
        dimensions = self._dimensions(request, wrong)
        if wrong:
            raise InvalidRequest(*wrong)
        return texts, dimensions

    def _query(self, text: str, field: str, wrong: list[Violation]) -> str:
        count = len(text.strip())
        if count > self._limits.max_query_chars:
            wrong.append(Violation(field, f"has {count} characters; at most {self._limits.max_query_chars}"))
            return ""
        if not text.isprintable():  # rare: tell blanks that a paste leaves behind from what does not belong
            text = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
            # Only these: what this Python takes for unassigned may be an emoji of next year.
            bad = next((c for c in text if unicodedata.category(c) == "Cc"), "")
            if bad:
                wrong.append(Violation(field, f"holds the control character U+{ord(bad):04X}"))
                return ""
        text = unicodedata.normalize("NFC", text).strip()
        if not text:
            wrong.append(Violation(field, "must not be empty"))
        return text

    def _locale(self, locale: str, wrong: list[Violation]) -> None:
        if locale and locale.casefold() not in self._locales:
            wrong.append(Violation("locale", f"is {locale[:40]!r}; served are {', '.join(self._manifest.locales)}"))

    def _filter(self, message: product_pb2.ProductFilter, wrong: list[Violation]) -> ProductFilter:
        refuse_unknown(message, "filter.", wrong)
        for name in ("brands", "categories"):
            values = getattr(message, name)
            if len(values) > MAX_FILTER_VALUES:
                wrong.append(Violation(f"filter.{name}", f"has {len(values)} values; at most {MAX_FILTER_VALUES}"))
            for n, value in enumerate(values[:MAX_FILTER_VALUES]):
                if not value or len(value) > MAX_FILTER_CHARS:
                    wrong.append(Violation(f"filter.{name}[{n}]", f"must have 1 to {MAX_FILTER_CHARS} characters"))
        low = message.min_price_minor if message.HasField("min_price_minor") else None
        high = message.max_price_minor if message.HasField("max_price_minor") else None
        for name, price in (("min_price_minor", low), ("max_price_minor", high)):
            if price is not None and price < 0:
                wrong.append(Violation(f"filter.{name}", f"is {price}; it must be 0 or more"))
        if low is not None and high is not None and low > high:
            wrong.append(Violation("filter.min_price_minor", f"is {low}, above max_price_minor, which is {high}"))
        brands, categories = (tuple(map(_as_catalogued, values)) for values in (message.brands, message.categories))
        return ProductFilter(brands, categories, low, high, message.in_stock_only)

    def _warnings(self, wanted: ProductFilter) -> tuple[str, ...]:
        unknown = [
            f"filter.{plural}: the catalogue has no {field} {value!r}"
            for plural, field, values in (
                ("brands", "brand", wanted.brands),
                ("categories", "category", wanted.categories),
            )
            for value in values
            if not self._masks.knows(field, value)
        ]
        return tuple(unknown)

    def _product_fields(self, names: Sequence[str], wrong: list[Violation]) -> tuple[str, ...]:
        if not names:
            return self._fields
        asked = set(names)
        if not asked.issubset(self._fields):
            unknown = ((n, name) for n, name in enumerate(names) if name not in self._fields)
            known = f"known are {', '.join(self._fields)}"
            for n, name in itertools.islice(unknown, MAX_UNKNOWN_FIELDS):
                wrong.append(Violation(f"product_fields[{n}]", f"{name[:80]!r} is unknown; {known}"))
                known = "see the first"
        return tuple(name for name in self._fields if name in asked)

    def _product(self, row: int, fields: tuple[str, ...]) -> product_pb2.Product:
        """The product's message with these fields; read-only, since it is kept for the next answer that holds it.

        Making one takes 31 us, copying one 4 us, and some products are in many answers.
        """
        key = (row, fields)
        product = self._made.get(key)
        if product is None:
            product = self._made[key] = self._make_product(row, fields)
            self._made_bytes += product.ByteSize()
            if self._made_bytes > MAX_KEPT_BYTES:
                self._made, self._made_bytes = {}, 0
        return product

    def _make_product(self, row: int, fields: Sequence[str]) -> product_pb2.Product:
        table = self._products
        product = product_pb2.Product(id=table.id(row))
        for field in fields:
            if field == "price_minor":
                price = table.price_minor(row)
                if price is not None:
                    product.price_minor = price
            elif field == "in_stock":
                product.in_stock = bool(table.in_stock[row])
            elif text := table.string(field, row):
                if field in CORE_FIELDS:
                    setattr(product, field, text)
                else:
                    product.attributes[field.removeprefix(ATTRIBUTE)] = text
        return product

    def _item_count(self, field: str, count: int, wrong: list[Violation]) -> None:
        if not 1 <= count <= self._limits.max_embed_items:
            wrong.append(Violation(field, f"has {count} items; it must have 1 to {self._limits.max_embed_items}"))

    def _dimensions(
        self, request: embedding_pb2.EmbedQueriesRequest | embedding_pb2.EmbedProductsRequest, wrong: list[Violation]
    ) -> int:
        offered = self._manifest.encoder["dimensions"]
        dimensions = request.dimensions if request.HasField("dimensions") else self._manifest.dim
        if dimensions not in offered:
            wrong.append(Violation("dimensions", f"is {dimensions}; offered are {', '.join(map(str, offered))}"))
        self._encoding(request.encoding, wrong)
        return dimensions

    def _encoding(self, encoding: int, wrong: list[Violation]) -> None:
        if encoding not in embedding_pb2.VectorEncoding.values():
            wrong.append(Violation("encoding", f"is {encoding}, which this server does not know"))

    def _page_token(self, offset: int, digest: bytes) -> str:
        """Opaque to the caller: index version, offset and a MAC over both and the request."""
        body = bytes.fromhex(self._manifest.version) + _TOKEN.pack(offset)
        return base64.urlsafe_b64encode(body + self._mac(body, digest)).decode()

    def _mac(self, body: bytes, digest: bytes) -> bytes:
        return hashlib.blake2b(body + digest, key=self._token_key, digest_size=_MAC_BYTES).digest()

    def _offset(self, token: str, digest: bytes, wrong: list[Violation]) -> int:
        version = bytes.fromhex(self._manifest.version)
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        if len(raw) != len(version) + _TOKEN.size + _MAC_BYTES:
            wrong.append(Violation("page_token", "is not a token of this service"))
            return 0
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if body[: len(version)] != version:
            raise StaleVersion(
                f"page_token: was made by index {body[: len(version)].hex()}, served is {version.hex()}; ask for the first page",
                reason="STALE_PAGE_TOKEN",
            )
        if not hmac.compare_digest(mac, self._mac(body, digest)):
            wrong.append(Violation("page_token", "does not belong to this request: repeat every other field unchanged"))
            return 0
        return int(_TOKEN.unpack(body[len(version) :])[0])


def _check_shopper(shopper_id: str, wrong: list[Violation]) -> None:
    if len(shopper_id) > MAX_SHOPPER_ID_CHARS or not shopper_id.isprintable():
        wrong.append(Violation("shopper_id", f"must be at most {MAX_SHOPPER_ID_CHARS} printable characters"))


def write_shopper(
    response: search_pb2.SearchResponse | ranking_pb2.RankResponse, shopper: Shopper, strength: float
) -> None:
    response.personalisation.source = _SOURCES[shopper.source]
    if shopper.source is Source.NONE:
        response.personalisation.reason = shopper.reason
    else:
        response.personalisation.strength = strength
        response.personalisation.events = shopper.num_events
    if shopper.failed:
        response.degradations.add(part="shopper", reason=shopper.reason)


def write_phases(timing: search_pb2.Timing, phases: Sequence[PhaseTime]) -> None:
    for phase in phases:
        timing.phases.add(
            name=phase.name, queue_ms=phase.queue_ms, compute_ms=phase.compute_ms, batch_size=phase.batch_size
        )


def _write_types(response: search_pb2.SearchResponse, found: TypeFinding, wanted: TypeUse) -> None:
    if found.failed:
        response.degradations.add(part="types", reason=found.failed)
    if found.failed or wanted is TypeUse.OFF:  # or only the ranker wanted them
        return
    response.product_types.query.CopyFrom(write_prediction(found.prediction))
    response.product_types.used = TYPE_USE_NUMBERS[found.used]
    for category, hits in found.facets:
        response.product_types.facets.add(category=category, hits=hits)


def write_prediction(told: TypePrediction) -> query_pb2.QueryTypes:
    return query_pb2.QueryTypes(
        types=[query_pb2.TypeProbability(type=name, probability=chance) for name, chance in told.types],
        abstained=told.abstained,
        locale_used=told.locale_used,
    )


def write_vectors(
    vectors: Floats, dimensions: int, encoding: embedding_pb2.VectorEncoding.ValueType
) -> embedding_pb2.Vectors:
    """(rows, dim) unit vectors as the caller wants them."""
    half = encoding == embedding_pb2.VECTOR_ENCODING_FLOAT16
    cut = cut_to(vectors, dimensions)
    return embedding_pb2.Vectors(
        data=cut.astype("<f2" if half else "<f4").tobytes(),
        rows=len(cut),
        dimensions=dimensions,
        encoding=embedding_pb2.VECTOR_ENCODING_FLOAT16 if half else embedding_pb2.VECTOR_ENCODING_FLOAT32,
    )


def write_stage_stats(stage: Stage[Any, Any]) -> info_pb2.StageStats:
    return info_pb2.StageStats(
        stage=stage.name, placement=stage.placement, replicas=stage.replicas(), **asdict(stage.batcher.stats())
    )


def refuse_unknown(message: Message, where: str, wrong: list[Violation]) -> None:
    """A field that this server does not know may be a filter: ignoring it would answer another question."""
    unknown = UnknownFieldSet(message)
    numbers = sorted({unknown[n].field_number for n in range(len(unknown))})
    wrong.extend(
        Violation(f"{where}{number}", "is a field number that this server does not know; it may be newer here")
        for number in numbers[:MAX_UNKNOWN_FIELDS]
    )


def _as_catalogued(value: str) -> str:
    """A brand or category written as the catalogue writes it: NFC, without blanks around it."""
    return value if value.isascii() and value == value.strip() else clean_text(value, unescape=False)


def read_product(
    message: product_pb2.Product, where: str, wrong: list[Violation], *, needs_title: bool = True
) -> Product:
    """The product as the catalogue would hold it, or else the same text would get another vector."""
    limits = {"id": MAX_ID_CHARS, "title": MAX_TITLE_CHARS, "brand": MAX_TITLE_CHARS, "category": MAX_TITLE_CHARS}
    texts = {name: getattr(message, name) for name in limits}
    texts |= {f"attributes[{name[:80]!r}]": value for name, value in message.attributes.items()}
    for name, value in texts.items():
        if len(value) > limits.get(name, MAX_TEXT_CHARS):
            at_most = limits.get(name, MAX_TEXT_CHARS)
            wrong.append(Violation(f"{where}.{name}", f"has {len(value)} characters; at most {at_most}"))
            return Product(id="", title="")
    product = Product(
        id=message.id,
        title=clean_text(message.title),
        brand=clean_text(message.brand),
        category=clean_text(message.category),
        price_minor=message.price_minor if message.HasField("price_minor") else None,
        in_stock=message.in_stock if message.HasField("in_stock") else True,
        attributes={name: clean_text(value) for name, value in message.attributes.items()},
    )
    if needs_title and not product.title:
        wrong.append(Violation(f"{where}.title", "must not be empty"))
    return product


def _digest(
    query: str,
    request: search_pb2.SearchRequest,
    wanted: ProductFilter,
    boosts: tuple[float, ...],
    types: tuple[TypeUse, float],
    ranking: Ranking,
) -> bytes:
    """What identifies the result list that a page is cut from."""
    use, type_boost = types
    spread = ranking.diversity
    return hashlib.sha256(
        repr(  # of plain values: that of a dataclass takes ten times as long, and every search pays for it
            (
                query,
                request.verbatim,
                request.locale.casefold(),
                request.shopper_id,
                None if wanted is NO_FILTER else wanted,
                request.personalisation if request.HasField("personalisation") else 1.0,
                request.min_similarity if request.HasField("min_similarity") else None,
                request.relevant_only,
                boosts,
                use.value,
                type_boost,
                ranking.model.value,
                ranking.depth,
                ranking.weights,
                spread and (spread.max_each, spread.among),
                [event.SerializeToString(deterministic=True) for event in request.recent_events],
            )
        ).encode()
    ).digest()
