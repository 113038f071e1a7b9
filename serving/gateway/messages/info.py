"""The messages of InfoService: what is served, and what the stages and calls have done."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from aisle.v1 import info_pb2
from models.bundles.manifest import Manifest
from models.products.attributes.columns import AttributeColumns
from models.products.product_table import ProductTable
from serving.config import AisleConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import refuse_unknown
from serving.gateway.messages.ranking_fields import FEATURE_NAMES, MODEL_NUMBERS, write_weights
from serving.gateway.messages.type_fields import TYPE_USE_NUMBERS
from serving.request_log.page_writer import PageCounts
from serving.search.request import RankModel, TypeUse
from serving.search.shopper_vectors import MAX_EVENTS
from serving.stages.stage import Stage


class InfoMessages:
    """Describes one served bundle. `relevance_threshold` is None if the bundle has no shopper model."""

    def __init__(
        self,
        manifest: Manifest,
        config: AisleConfig,
        *,
        products: ProductTable,
        attributes: AttributeColumns,
        encoder_backend: str,
        relevance_threshold: float | None = None,
    ) -> None:
        self._manifest = manifest
        self._config = config
        self._products = products
        self._columns = attributes
        self._attributes = [
            info_pb2.AttributeInfo(
                name=column.name,
                type=info_pb2.AttributeType.Value(f"ATTRIBUTE_TYPE_{column.type.name}"),
                unit=column.unit,
            )
            for column in attributes.values()
        ]
        self._encoder_backend = encoder_backend
        self._relevance_threshold = relevance_threshold

    @staticmethod
    def check(request: info_pb2.GetInfoRequest | info_pb2.GetStatsRequest) -> None:
        """Raises InvalidRequest for a field that this server does not know."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        if violations:
            raise InvalidRequest(*violations)

    def write_info(self) -> info_pb2.GetInfoResponse:
        """Returns the answer without its request id."""
        manifest = self._manifest
        for attribute, column in zip(self._attributes, self._columns.values(), strict=True):
            attribute.num_values = column.num_values  # products that come bring values
        return info_pb2.GetInfoResponse(
            server_version=importlib.metadata.version("aisle"),
            bundle_version=manifest.version,
            catalogue=info_pb2.CatalogueInfo(
                name=manifest.name,
                products=self._products.num_alive,
                currency=manifest.currency,
                locales=manifest.locales,
                product_fields=self._products.fields,
                attributes=self._attributes,
            ),
            encoder=info_pb2.EncoderInfo(
                model=manifest.encoder["model"],
                dimensions=manifest.encoder["dimensions"],
                max_query_tokens=manifest.encoder["max_query_tokens"],
                max_product_tokens=manifest.encoder["max_product_tokens"],
                text_attributes=manifest.text_attributes,
                backend=self._encoder_backend,
            ),
            index=info_pb2.IndexInfo(
                version=manifest.version,
                kind=manifest.index["spec"]["kind"],
                recall_at_100=manifest.index["recall"],
                bytes_per_product=manifest.index["bytes_per_product"],
                boosts=manifest.boosts,
            ),
            limits=self._limits(),
            shopper_model=self._shopper_model(),
            type_model=self._type_model(),
            ranker=self._ranker(),
        )

    def _limits(self) -> info_pb2.Limits:
        limits, server, shoppers = self._config.limits, self._config.server, self._config.shoppers
        return info_pb2.Limits(
            max_query_chars=limits.max_query_chars,
            default_page_size=limits.default_page_size,
            max_page_size=limits.max_page_size,
            max_results=limits.max_results,
            max_embed_items=limits.max_embed_items,
            max_message_bytes=server.max_message_bytes,
            max_deadline_ms=server.max_deadline_ms,
            max_recent_events=limits.max_recent_events,
            max_batch_events=shoppers.max_batch_events,
            max_events_per_shopper=shoppers.max_events_per_shopper,
            max_rank_depth=limits.max_rank_depth,
            max_rank_candidates=limits.max_rank_candidates,
            max_changes=self._config.catalogue.max_changes,
        )

    def _shopper_model(self) -> info_pb2.ShopperModelInfo | None:
        if self._relevance_threshold is None:
            return None
        return info_pb2.ShopperModelInfo(
            model=self._manifest.encoder["model"],
            relevance_threshold=self._relevance_threshold,
            max_events=MAX_EVENTS,
            store=self._config.shoppers.store,
        )

    def _type_model(self) -> info_pb2.TypeModelInfo | None:
        facts, config = self._manifest.query_types, self._config.types
        if not facts:
            return None
        return info_pb2.TypeModelInfo(
            types=facts["types"],
            locales=facts["locales"],
            precision=facts["precision"],
            default_use=TYPE_USE_NUMBERS[TypeUse(config.use)],
            boost=config.boost,
        )

    def _ranker(self) -> info_pb2.RankerInfo | None:
        facts, config = self._manifest.ranker, self._config
        if not facts:
            return None
        return info_pb2.RankerInfo(
            recipe=facts["recipe"],
            features=FEATURE_NAMES,
            teacher=bool(facts["teacher"]),
            default_model=MODEL_NUMBERS[RankModel(config.ranker.model)],
            default_depth=config.ranker.depth,
            default_weights=write_weights(config.ranker.weights),
            default_asked_weight=config.ranker.asked_weight,
            teacher_depth=config.teacher.depth if facts["teacher"] else 0,
        )


def write_stats(
    replica_id: str,
    uptime_s: float,
    stages: Iterable[Stage[Any, Any]],
    ended: Mapping[tuple[str, str], int],
    pages: PageCounts | None = None,
) -> info_pb2.GetStatsResponse:
    """Returns the answer without its request id. `ended` counts the calls that ended, by method and code; `pages` is None if no pages are
    logged."""
    return info_pb2.GetStatsResponse(
        replica_id=replica_id,
        uptime_s=uptime_s,
        stages=[
            info_pb2.StageStats(
                stage=stage.name, placement=stage.placement, replicas=stage.replicas(), **asdict(stage.batcher.stats())
            )
            for stage in stages
        ],
        calls=[
            info_pb2.CallCount(method=method, code=code, count=count) for (method, code), count in sorted(ended.items())
        ],
        request_log=info_pb2.RequestLogStats(**asdict(pages)) if pages else None,
    )
