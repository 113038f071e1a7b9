"""Opens what the configuration says of traces."""

from __future__ import annotations

from collections.abc import Mapping

from serving.config import ConfigError, TracesConfig
from serving.traces.trace import Tracer


def open_tracer(config: TracesConfig, facts: Mapping[str, str]) -> Tracer | None:
    """Returns None where traces are off. `facts` are attributes of the process."""
    if not config.endpoint:
        return None
    from serving.traces.otlp import OtlpTracer

    return OtlpTracer(config, facts)


def check_traces(config: TracesConfig) -> None:
    """Raises ConfigError if traces could not be sent for want of a package. A collector that cannot be reached is no error."""
    if not config.endpoint:
        return
    try:
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"traces.endpoint needs the package {error.name}: pip install 'aisle[otel]'") from None
