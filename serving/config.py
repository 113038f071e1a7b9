"""The typed configuration: `aisle.toml`, checked as a whole before anything starts.

The defaults serve a bundle on the loopback of this machine. There is one key per decision; everything else is derived.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from models.errors import InputError


class ConfigError(InputError):
    """The configuration cannot be used; the message names each bad key and its allowed values."""


# Other processes with other working folders read the file: a relative path starts where `aisle serve` was started.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServerConfig(_Section):
    """Where and how the gateway listens."""

    host: str = Field("127.0.0.1", description="Address to listen on. Any address but loopback needs [tls].")
    port: int = Field(9000, ge=1, le=65535, description="Port of the gRPC API.")
    replicas: int = Field(1, ge=1, le=64, description="Gateway processes; on one node they share the port.")
    num_cpus: float = Field(0, ge=0, description="CPUs that Ray reserves for each gateway process.")
    ray_resource: str = Field(
        "", description="Resource that a node of a Ray cluster needs to get gateways. Empty: every node may get them."
    )
    # gRPC takes these as 32-bit milliseconds and bytes: hence the upper bounds.
    max_message_bytes: int = Field(4 * 1024**2, ge=1024, le=1024**3, description="Largest request or answer.")
    max_deadline_ms: int = Field(
        10_000, ge=1, le=3_600_000, description="Longest deadline of a call, and the deadline of a call without one."
    )
    keepalive_s: float = Field(60, ge=1, le=86_400, description="Idle time after which a connection is probed.")
    max_connection_age_s: float = Field(
        600,
        ge=0.1,
        le=86_400,
        description="Age at which a connection is closed gracefully, so that clients spread over new machines.",
    )
    drain_s: float = Field(
        10, ge=0, le=3600, description="Longest time that a stopping replica gives to its calls in progress."
    )
    reflection: bool = Field(True, description="Serve gRPC reflection.")
    allow_insecure: bool = Field(False, description="Listen beyond loopback without TLS, for example behind a mesh.")

    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class TlsConfig(_Section):
    """PEM files. Without a certificate the gateway speaks plain HTTP/2. Changed files are read again without a restart."""

    certificate: AbsolutePath | None = Field(None, description="The server's certificate chain.")
    key: AbsolutePath | None = Field(None, description="The certificate's private key.")
    client_ca: AbsolutePath | None = Field(None, description="If set, clients need a certificate of this CA (mTLS).")

    @model_validator(mode="after")
    def _complete(self) -> TlsConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: one of them is missing")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs certificate and key")
        for name in ("certificate", "key", "client_ca"):
            path = getattr(self, name)
            if path and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        return self


class AuthConfig(_Section):
    """API keys. Without a keys file every caller may call every method."""

    keys_file: AbsolutePath | None = Field(
        None, description="Lines made by `aisle key`: name, SHA-256 of the key, scopes."
    )


class LimitsConfig(_Section):
    """The most that one request may ask for, and the default page size."""

    max_query_chars: int = Field(512, ge=1, le=8192, description="Characters of one query.")
    default_page_size: int = Field(24, ge=1, description="Hits of a search that sets no page size.")
    max_page_size: int = Field(100, ge=1, le=1000, description="Hits of one page.")
    max_results: int = Field(1000, ge=1, le=10_000, description="Hits that paging can reach.")
    max_recent_events: int = Field(200, ge=1, le=1000, description="Recent events of one search.")
    max_embed_items: int = Field(256, ge=1, le=4096, description="Queries or products of one embedding call.")
    max_rank_depth: int = Field(1000, ge=1, le=10_000, description="Candidates of one search that are ranked.")
    max_rank_candidates: int = Field(10_000, ge=1, le=50_000, description="Candidates of one Rank call.")

    @model_validator(mode="after")
    def _ordered(self) -> LimitsConfig:
        if not self.default_page_size <= self.max_page_size <= self.max_results:
            raise ValueError(
                f"default_page_size ({self.default_page_size}) <= max_page_size ({self.max_page_size}) <= "
                f"max_results ({self.max_results}) must hold"
            )
        return self


class LightStageConfig(_Section):
    """Where a stage computes and how it scales. This stage needs no GPU."""

    placement: Literal["local", "remote"] = Field(
        "local", description="local: in each gateway process. remote: in Ray Serve replicas of its own."
    )
    max_wait_ms: float = Field(
        250, gt=0, description="Longest expected wait for a stage that is never free; further calls are refused."
    )
    min_replicas: int = Field(1, ge=1, description="remote only")
    max_replicas: int = Field(1, ge=1, description="remote only; above min_replicas the stage scales by itself")
    target_queue_ms: float = Field(20, gt=0, description="remote only: age of the queue above which replicas are added")
    scale_down_after_s: float = Field(
        120, ge=1, description="remote only: replicas that were not needed for so long are removed"
    )
    num_cpus: float = Field(1, ge=0, description="remote only: CPUs that Ray reserves for one replica")
    num_gpus: float = Field(0, ge=0, description="remote only: share of a GPU for one replica")

    @model_validator(mode="after")
    def _bounds(self) -> LightStageConfig:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})")
        if self.placement == "local" and self.max_replicas > 1:
            raise ValueError(
                "a local stage has one replica in each gateway: set placement = 'remote' or server.replicas"
            )
        if self.max_replicas > self.min_replicas and self.target_queue_ms >= self.max_wait_ms:
            raise ValueError(
                f"target_queue_ms ({self.target_queue_ms:g}) is not below max_wait_ms ({self.max_wait_ms:g}): calls would be refused "
                "before their queue is old enough to add a replica"
            )
        return self


class StageConfig(LightStageConfig):
    """Where a stage computes and how it scales."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA if there is a GPU. Queries of the unified model are encoded on the CPU."
    )
    threads: int = Field(0, ge=0, description="CPU threads of one replica; 0: as many as it has cores.")

    @model_validator(mode="after")
    def _has_a_gpu(self) -> StageConfig:
        if self.placement == "remote" and self.device == "cuda" and not self.num_gpus:
            raise ValueError("device = 'cuda' on a remote stage needs num_gpus above 0")
        return self


class RetrieverConfig(StageConfig):
    """The index, and the ranker's student. `shards` divides the products among machines: each holds and searches a part of them."""

    shards: int = Field(
        1,
        ge=1,
        le=64,
        description="remote only: parts of the index, each with replicas of its own. 1: all of it in one.",
    )
    max_shard_wait_ms: float = Field(
        500, gt=0, le=60_000, description="Longest wait of a search for a shard after another has answered."
    )
    gpu_index: Literal["auto", "exact", "lists", "graph"] = Field(
        "auto",
        description="On a GPU. auto: exact or lists, whichever is faster there. graph: CAGRA, of a FAISS with cuVS.",
    )

    @model_validator(mode="after")
    def _shards_are_remote(self) -> RetrieverConfig:
        if self.shards > 1 and self.placement == "local":
            raise ValueError(
                f"shards = {self.shards} needs placement = 'remote': a local retriever holds all products in each gateway"
            )
        return self


class TypesConfig(LightStageConfig):
    """The query classifier, if the bundle holds one, and what a search does by default with the types of its query."""

    use: Literal["off", "facets", "boost", "filter"] = Field(
        "boost",
        description="facets: only reported. boost: products of the query's types score higher. filter: only these.",
    )
    # With 0, 0.3, 0.5 and 1 the share of the requested type among the first 10 hits is .08, .80, .84 and .84 for queries in other
    # languages, and .992, .998, .998 and .997 in the catalogue's own language (`aisle evaluate type-use`, simulated).
    boost: float = Field(0.5, ge=0, le=1, description="Added score of a product whose type has probability 1.")


class RankerConfig(_Section):
    """The default ranking of a search, if the bundle holds a ranker."""

    model: Literal["none", "student", "teacher"] = Field(
        "student", description="student: ranks with the retrieval. teacher: a cross-encoder orders its best again."
    )
    depth: int = Field(200, ge=0, le=10_000, description="Best candidates of the retrieval that are ranked.")
    click_weight: float = Field(1, ge=0, le=1e6, description="Value of a click; only the ratios of the values matter.")
    cart_weight: float = Field(4, ge=0, le=1e6, description="Value of a product put into the cart.")
    purchase_weight: float = Field(16, ge=0, le=1e6, description="Value of a purchase.")
    # Chosen on the simulated shop, where with 4, 5, 6, 8 and 10 the share of the first ten hits that hold two named attributes and the type
    # is .92, .95, .97, .99 and .99 (`python -m loadtest.asked`), and Recall@10 of later purchases .305, .303, .298, .294 and .285.
    asked_weight: float = Field(
        6,
        ge=0,
        le=10,
        description="A product that holds all words of the query counts exp(asked_weight) times as much as one that holds none.",
    )

    @property
    def weights(self) -> tuple[float, float, float]:
        return float(self.click_weight), float(self.cart_weight), float(self.purchase_weight)

    @model_validator(mode="after")
    def _has_a_weight(self) -> RankerConfig:
        if not any(self.weights):
            raise ValueError("click_weight, cart_weight and purchase_weight must not all be 0")
        return self


class TeacherConfig(StageConfig):
    """The cross-encoder, if the bundle holds one. It orders the best candidates of the student again."""

    depth: int = Field(32, ge=1, le=1000, description="Best candidates of the student that it orders again.")


def _check_url(url: SecretStr | None, password_file: Path | None) -> None:
    stated = url.get_secret_value() if url else ""
    if stated and not stated.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("url must begin with redis://, rediss:// or unix://")
    if password_file and not stated:
        raise ValueError("password_file needs url")
    if password_file and ":" in _user_info(stated):
        raise ValueError("password_file and a password in url: set one of them")


def _user_info(url: str) -> str:
    """Returns USER:PASSWORD of a URL, or what there is of it."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[0]


class ShoppersConfig(_Section):
    """Where the events of shoppers are stored, and for how long."""

    store: Literal["off", "sqlite", "redis"] = Field(
        "sqlite",
        description="sqlite: a file for the gateways of one machine. redis: for many machines. off: no events.",
    )
    path: AbsolutePath | None = Field(
        None,
        description="sqlite only: the file, on a local disk. Default: CATALOGUE.db in $XDG_STATE_HOME/aisle (~/.local/state/aisle).",
    )
    sync: Literal["full", "normal"] = Field(
        "full", description="sqlite only. full: events survive a power cut. normal: the death of the process."
    )
    url: SecretStr | None = Field(None, description="redis only: redis://HOST:PORT/DB, rediss:// for TLS, or unix://.")
    password_file: AbsolutePath | None = Field(
        None, description="redis only: file that holds the password, for a url without one."
    )
    max_events_per_shopper: int = Field(200, ge=1, le=5000, description="Newest events of a shopper that are kept.")
    retention_days: float = Field(365, gt=0, le=36_500, description="Older events are deleted.")
    max_batch_events: int = Field(1000, ge=1, le=10_000, description="Events of one batch.")
    max_wait_ms: float = Field(
        50,
        gt=0,
        le=10_000,
        description="Longest wait of a search for the store; after it the answer is not personalised.",
    )
    max_clock_skew_s: float = Field(
        60, ge=0, le=86_400, description="How far in the future the time of an event may lie."
    )

    @model_validator(mode="after")
    def _complete(self) -> ShoppersConfig:
        if (self.store == "redis") != (self.url is not None):
            raise ValueError("store = 'redis' and url go together: one of them is missing")
        _check_url(self.url, self.password_file)
        if self.path and self.store != "sqlite":
            raise ValueError(f"path is for store = 'sqlite', not '{self.store}'")
        return self


class CatalogueConfig(_Section):
    """Where changes of the catalogue are logged, and when a new generation of it is built."""

    log: Literal["off", "sqlite", "redis"] = Field(
        "sqlite",
        description="sqlite: a file for the processes of one machine. redis: a stream for many machines. off: no changes.",
    )
    path: AbsolutePath | None = Field(
        None,
        description="sqlite only: the file, on a local disk. Default: NAME-changes.db in $XDG_STATE_HOME/aisle (~/.local/state/aisle).",
    )
    sync: Literal["full", "normal"] = Field(
        "full", description="sqlite only. full: changes survive a power cut. normal: the death of the process."
    )
    url: SecretStr | None = Field(None, description="redis only: redis://HOST:PORT/DB, rediss:// for TLS, or unix://.")
    password_file: AbsolutePath | None = Field(
        None, description="redis only: file that holds the password, for a url without one."
    )
    compact_after: int = Field(
        50_000,
        ge=0,
        description="Changes after which a new generation of the bundle is built and taken in. 0: only 'aisle catalogue compact' builds.",
    )
    max_changes: int = Field(1000, ge=1, le=10_000, description="Changes of one call.")
    max_wait_ms: float = Field(
        1000, gt=0, le=60_000, description="Longest wait of an acknowledgement for all replicas to apply the change."
    )

    @model_validator(mode="after")
    def _complete(self) -> CatalogueConfig:
        if (self.log == "redis") != (self.url is not None):
            raise ValueError("log = 'redis' and url go together: one of them is missing")
        _check_url(self.url, self.password_file)
        if self.path and self.log != "sqlite":
            raise ValueError(f"path is for log = 'sqlite', not '{self.log}'")
        return self


class RequestLogConfig(_Section):
    """A sampled log of the pages that searches showed: with the shoppers' events it becomes a log to train on (`aisle export-events`)."""

    share: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of the shoppers all of whose pages are logged, and of the searches without a shopper. 0: none.",
    )
    path: AbsolutePath | None = Field(
        None,
        description="Its folder, on a local disk. Default: CATALOGUE-pages in $XDG_STATE_HOME/aisle (~/.local/state/aisle).",
    )
    shoppers: Literal["none", "pseudonym"] = Field(
        "none",
        description="none: a page names nobody. pseudonym: a tag of the day, which leads nowhere once the shopper is forgotten.",
    )
    features: bool = Field(False, description="Also log what the ranker read of each ranked hit.")
    max_file_s: float = Field(
        300,
        ge=1,
        le=3600,
        description="Age at which a file is written. A process that is killed loses what is younger.",
    )
    max_bytes: int = Field(4 * 1024**3, ge=1024**2, description="Of all files together; the oldest are deleted.")
    max_days: float = Field(90, gt=0, le=36_500, description="Older files are deleted.")


class LogConfig(_Section):
    """The log on stderr, one line per event."""

    format: Literal["text", "json"] = Field("text", description="text: for people. json: one object per line.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    requests: Literal["all", "failed", "off"] = Field("failed", description="Calls that get a line.")


class MetricsConfig(_Section):
    """What Prometheus scrapes: one page for all processes of this machine. Read at start alone."""

    port: int = Field(0, ge=0, le=65535, description="Port of http://HOST:PORT/metrics; 9464 is usual. 0: no metrics.")
    host: str = Field("127.0.0.1", description="Address to listen on. Whoever reaches it reads it, without a key.")


class TracesConfig(_Section):
    """Where spans of calls are sent, by OTLP over gRPC. Needs the extra 'otel'."""

    endpoint: str = Field(
        "", description="Of a collector, as http://127.0.0.1:4317; https:// for TLS. Empty: no traces."
    )
    share: float = Field(
        0.01, ge=0, le=1, description="Share of the calls that are traced, of those whose caller has not decided it."
    )

    @model_validator(mode="after")
    def _reachable(self) -> TracesConfig:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint must begin with http:// or https:// (it is '{self.endpoint}')")
        return self


class AisleConfig(_Section):
    """All of `aisle.toml`."""

    server: ServerConfig = ServerConfig()
    tls: TlsConfig = TlsConfig()
    auth: AuthConfig = AuthConfig()
    limits: LimitsConfig = LimitsConfig()
    encoder: StageConfig = StageConfig()
    shopper_encoder: LightStageConfig = LightStageConfig()
    product_encoder: LightStageConfig = LightStageConfig()
    retriever: RetrieverConfig = RetrieverConfig()
    types: TypesConfig = TypesConfig()
    ranker: RankerConfig = RankerConfig()
    teacher: TeacherConfig = TeacherConfig()
    shoppers: ShoppersConfig = ShoppersConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    request_log: RequestLogConfig = RequestLogConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()

    @model_validator(mode="after")
    def _ranks_what_it_may(self) -> AisleConfig:
        if self.ranker.depth > self.limits.max_rank_depth:
            raise ValueError(
                f"ranker.depth ({self.ranker.depth}) is above limits.max_rank_depth ({self.limits.max_rank_depth})"
            )
        return self

    @model_validator(mode="after")
    def _forgets_pages_too(self) -> AisleConfig:
        if self.request_log.shoppers == "pseudonym" and self.shoppers.store != "sqlite":
            raise ValueError(
                f"request_log.shoppers = 'pseudonym' needs shoppers.store = 'sqlite' (it is '{self.shoppers.store}'): only there has each "
                "shopper a key, without which a forgotten shopper's pages lead nowhere"
            )
        return self

    @model_validator(mode="after")
    def _has_two_ports(self) -> AisleConfig:
        if self.metrics.port == self.server.port:
            raise ValueError(f"metrics.port and server.port are both {self.server.port}")
        return self

    @model_validator(mode="after")
    def _safe(self) -> AisleConfig:
        if not self.server.is_loopback() and not self.tls.certificate and not self.server.allow_insecure:
            raise ValueError(
                f"server.host = '{self.server.host}' is reachable from other machines: set [tls] certificate and key, "
                "or server.allow_insecure = true"
            )
        return self


def redis_url(config: ShoppersConfig | CatalogueConfig) -> str:
    """Returns the URL of a section's Redis, with its password. Raises ConfigError if the password cannot be read."""
    url = config.url.get_secret_value() if config.url else ""
    if config.password_file is None:
        return url
    try:
        password = config.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        section = "shoppers" if isinstance(config, ShoppersConfig) else "catalogue"
        raise ConfigError(f"{section}.password_file: {config.password_file} cannot be read: {error}") from None
    user = _user_info(url)
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{quote(password, safe='')}@{rest.removeprefix(f'{user}@')}"


def load_config(path: Path | None, overrides: dict[str, dict[str, Any]] | None = None) -> AisleConfig:
    """Reads the configuration of a file. `overrides` are sections from the command line that replace its values. Raises ConfigError."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError(f"there is no configuration file {path}") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for section, keys in (overrides or {}).items():
        in_file = values.get(section, {})
        if isinstance(in_file, dict):  # anything else is refused below
            values[section] = {**in_file, **keys}
    try:
        return AisleConfig.model_validate(values)
    except ValidationError as error:
        prefix = f"{path}: " if path else ""
        raise ConfigError(prefix + "; ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "configuration"
    if problem["type"] != "extra_forbidden":
        value = "" if isinstance(problem["input"], dict | BaseModel) else f" (it is {problem['input']!r})"
        return f"{key}: {str(problem['msg']).removeprefix('Value error, ')}{value}"[:400]
    *parents, name = problem["loc"]
    section: Any = AisleConfig
    for parent in parents:
        section = section.model_fields[parent].annotation
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"{key}: unknown key; " + (f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}")
