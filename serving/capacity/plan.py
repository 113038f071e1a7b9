"""How many machines a catalogue and a rate of searches need: arithmetic over figures that say where they come from.

Each machine of the service holds all products, or, where the index is in shards, gateways hold what pages are made of and the machines of
each shard hold and search their part. The p99 follows from the share of the capacity that is used: the curve a + b * u / (1 - u) through
two measured points, in units of the work of one search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from models.errors import InputError
from models.index.tuner import MIN_FOR_LISTS
from models.index.vector_index import MAX_MULTIPLIED
from serving.capacity import known
from serving.capacity.bundle_bytes import READ, UNREAD, BundleBytes
from serving.capacity.figure import Figure, Figures

MILLION = 1_000_000
MAX_SHARDS = 64  # of [retriever] shards
LISTS_EXPONENT = 0.5
SPARE = 1  # machines that may be away
OF_PAGES = (
    "product table",
    "attributes",
    "identifiers",
)  # what a gateway needs of a catalogue whose index is in shards


class PlanError(InputError):
    """There is no such plan; the message names the option and its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be served, and on which machines."""

    products: int
    qps: float
    p99_ms: float
    cores: int
    memory_bytes: float  # of a machine
    gpus: bool
    gpu_memory_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Machines of one kind."""

    role: str
    count: int  # of each shard, with the spare
    shards: int
    cores: int
    gateways: int  # or replicas of the stage, on each machine
    gpus: int  # on each machine
    memory: dict[str, float]  # bytes on each machine, by use

    @property
    def total(self) -> int:
        return self.count * self.shards

    @property
    def bytes(self) -> float:
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What serves the wish. Times in seconds and milliseconds, memory in bytes."""

    index: str
    shards: int
    machines: list[Machines]
    search_ms: float  # core-ms of one search, on all machines together
    used: float  # share of the capacity
    p99_ms: float
    gateway_bytes: float  # resident memory of one gateway process
    bundle_bytes: float
    build_s: float
    start_s: float
    figures: list[Figure]
    warnings: list[str] = field(default_factory=list)

    @property
    def num_machines(self) -> int:
        return sum(machines.total for machines in self.machines)


def plan(wish: Wish, sizes: BundleBytes, figures: Figures) -> Plan:
    """Returns the plan with the fewest shards that keeps memory and p99. Raises PlanError if there is none."""
    return _Planner(wish, sizes, figures).plan()


class _Planner:
    def __init__(self, wish: Wish, sizes: BundleBytes, figures: Figures) -> None:
        self.wish, self.figures = wish, figures
        self.index = self._index(wish.products)
        self.sizes = self._with_index(sizes)

    def plan(self) -> Plan:
        best_ms = math.inf
        for shards in range(1, MAX_SHARDS + 1):
            best_ms = min(best_ms, self._p99_ms(shards, 0.0))
            used = self._used(shards)
            if used <= 0 or (shards < MAX_SHARDS and self._shard_bytes(shards) > self.wish.memory_bytes):
                continue
            return self._plan_with(shards, used)
        raise PlanError(
            f"--p99 {self.wish.p99_ms:g} cannot be planned for: {best_ms:.0f} ms is the least that the measured figures give for "
            f"{self.wish.products:,} products, with up to {MAX_SHARDS} shards"
        )

    def _plan_with(self, shards: int, used: float) -> Plan:
        wish, figures = self.wish, self.figures
        per_machine = 1000 * wish.cores * used  # core-ms of a second
        gateway_ms, shard_ms = self._gateway_ms(shards), self._shard_ms(shards)
        machines = []
        if shards == 1:
            needed = math.ceil(wish.qps * (gateway_ms + shard_ms) / per_machine)
            machines.append(self._machines("service", needed, 1, self._whole_memory()))
        else:
            needed = math.ceil(wish.qps * gateway_ms / per_machine)
            machines.append(self._machines("gateways", needed, 1, self._pages_memory()))
            needed = math.ceil(wish.qps * shard_ms / per_machine)
            machines.append(self._machines("shard", needed, shards, self._part_memory(shards)))
        warnings = [
            f"{each.role}: {each.bytes / 1024**3:,.0f} GiB are more than --machine-memory-gib {wish.memory_bytes / 1024**3:g}: take larger "
            "machines for it"
            for each in machines
            if each.bytes > wish.memory_bytes
        ]
        if wish.products > MILLION:
            warnings.append(
                "no catalogue of more than 1,000,000 products was measured: what is said of more is extrapolated"
            )
        read = sum(self.sizes.by_product.values()) * wish.products
        part = read / shards
        return Plan(
            index=self.index,
            shards=shards,
            machines=machines,
            search_ms=gateway_ms + shards * shard_ms,
            used=used,
            p99_ms=self._p99_ms(shards, used),
            gateway_bytes=self._resident(wish.products),
            bundle_bytes=read + self.sizes.networks,
            build_s=self._build_s(),
            start_s=figures[known.START_S]
            + figures.derive(
                "start: what more products add",
                figures[known.READ_S] * part / 1e9,
                "s",
                "by the bytes that a machine verifies",
            ),
            figures=list(figures),
            warnings=warnings,
        )

    def _machines(self, role: str, needed: int, shards: int, memory: dict[str, float]) -> Machines:
        return Machines(
            role=role,
            count=max(1, needed) + SPARE,
            shards=shards,
            cores=self.wish.cores,
            gateways=self._processes(),
            gpus=self._gpus_of_a_machine(shards, max(1, needed)) if self.wish.gpus and role != "gateways" else 0,
            memory=memory,
        )

    # The index

    def _index(self, products: int) -> str:
        if self.wish.gpus:
            return "exact, on GPUs"
        exact_ms = self._exact_ms(products)
        return "exact" if exact_ms <= self.figures[known.INDEX_MS] or products < MIN_FOR_LISTS else "ivf"

    def _exact_ms(self, products: float) -> float:
        return self.figures[known.EXACT_MS] * products / MILLION

    def _with_index(self, sizes: BundleBytes) -> BundleBytes:
        by_product = {part: size for part, size in sizes.by_product.items() if part not in UNREAD}
        if self.index == "ivf" and not sizes.has_lists:
            width = sizes.columns / 384
            by_product["index"] = self.figures.derive(
                "lists of codes, a product",
                self.figures[known.LISTS_BYTES] * width,
                "bytes",
                "by the number of dimensions",
            )
        if self.index != "ivf":
            by_product.pop("index", None)
        return BundleBytes(
            sizes.products,
            sizes.columns,
            by_product,
            sizes.networks,
            sizes.is_unified,
            self.index == "ivf",
            sizes.source,
        )

    def _vectors_ms(self, products: float) -> float:
        """Returns the core-ms that a search spends in the index over so many products."""
        width = self.sizes.columns / 384
        exact_ms = self._exact_ms(products) * width
        if self.index == "exact" or products < MIN_FOR_LISTS:
            return exact_ms
        lists_ms = self.figures[known.LISTS_MS] * width * max(1.0, products / MILLION) ** LISTS_EXPONENT
        return min(exact_ms, lists_ms)

    # The work of a search

    def _gateway_ms(self, shards: int) -> float:
        """Returns the core-ms of a search that do not grow with the catalogue."""
        figures = self.figures
        base = figures[known.UNIFIED_MS if self.sizes.is_unified else known.TEXT_MS]
        return base + ((shards - 1) * figures[known.SHARD_MS] if shards > 1 else 0.0)

    def _shard_ms(self, shards: int) -> float:
        """Returns the core-ms that a search spends in each shard, beyond those of the measured catalogue."""
        figures, products, base = self.figures, self.wish.products / shards, self.figures[known.BASE_PRODUCTS]
        rest = figures[known.REST_MS] * (products - base) / MILLION
        if products > MILLION:
            rest = figures.derive(
                "a search of a shard, but for the index", rest, "core-ms", "in proportion to its products"
            )
        if self.wish.gpus:
            return max(0.0, rest)
        vectors = self._vectors_ms(products)
        if products > MILLION:
            how = "with the root of its products" if self.index == "ivf" else "in proportion to its products"
            vectors = figures.derive("a search of a shard's index", vectors, "core-ms", f"{how}, beyond a million")
        return max(0.0, rest + vectors - self._vectors_ms(base))

    def _p99_ms(self, shards: int, used: float) -> float:
        figures = self.figures
        at_60, at_90 = figures[known.P99_60], figures[known.P99_90]
        slope = (at_90 - at_60) / (9 - 1.5)  # u / (1 - u) at 0.9 and 0.6
        work = (self._gateway_ms(shards) + self._shard_ms(shards)) / figures[known.P99_MS]
        beside = figures[known.HANDLE_MS] if shards > 1 else 0.0
        if self.wish.gpus:
            beside += figures[known.GPU_BATCH_MS] * self.wish.products / shards / MILLION
        return figures.derive(
            "p99 of this plan",
            beside + work * (at_60 - 1.5 * slope + slope * used / (1 - used)),
            "ms",
            "a + b * u / (1 - u) through the p99 at 60 and 90 % of the capacity, in proportion to the work of a search",
        )

    def _used(self, shards: int) -> float:
        """Returns the share of the capacity at which the p99 is kept, at most the one to plan with; 0 if it cannot be."""
        least, wanted = self._p99_ms(shards, 0.0), self.wish.p99_ms
        if least >= wanted:
            return 0.0
        odds = (wanted - least) / (self._p99_ms(shards, 0.5) - least)
        return min(self.figures[known.USED], odds / (1 + odds))

    # Memory

    def _processes(self) -> int:
        return max(1, int(self.wish.cores // self.figures[known.CORES_PER_GATEWAY]))

    def _own(self, products: float, parts: dict[str, float]) -> float:
        """Returns what each process has for itself."""
        figures = self.figures
        ratio = figures[known.UNIFIED_RATIO if self.sizes.is_unified else known.NETWORK_RATIO]
        networks = ratio * self.sizes.networks
        read = sum(size for part, size in parts.items() if part in READ) * products
        copy = 2.0 * self.sizes.columns * products if self.index == "exact" and products <= MAX_MULTIPLIED else 0.0
        return figures[known.GATEWAY_BYTES] + networks + figures[known.PRODUCT_BYTES] * products + read + copy

    def _mapped(self, products: float, parts: dict[str, float]) -> float:
        return sum(size for part, size in parts.items() if part not in READ) * products

    def _resident(self, products: float) -> float:
        """Returns the resident memory of one gateway that holds all products."""
        parts = dict(self.sizes.by_product)
        return self.figures[known.SHARED_BYTES] + self._own(products, parts) + self._mapped(products, parts)

    def _memory(self, products: float, parts: dict[str, float]) -> dict[str, float]:
        figures, processes = self.figures, self._processes()
        own, mapped = self._own(products, parts), self._mapped(products, parts)
        changed = figures[known.CHANGED] * products / self.wish.products
        changes = min(changed, products) * sum(parts.values())
        return {
            "service": figures[known.SERVICE_BYTES] + figures[known.SHARED_BYTES],
            "processes": processes * own,
            "files, mapped": mapped,
            "changes": processes * changes,
            # A quarter of the processes start beside the others, over the files of the next generation.
            "a rollout": math.ceil(processes / 4) * own + mapped,
        }

    def _whole_memory(self) -> dict[str, float]:
        return self._memory(self.wish.products, dict(self.sizes.by_product))

    def _part_memory(self, shards: int) -> dict[str, float]:
        return self._memory(self.wish.products / shards, dict(self.sizes.by_product))

    def _pages_memory(self) -> dict[str, float]:
        return self._memory(
            self.wish.products, {part: size for part, size in self.sizes.by_product.items() if part in OF_PAGES}
        )

    def _shard_bytes(self, shards: int) -> float:
        return sum((self._whole_memory() if shards == 1 else self._part_memory(shards)).values())

    # GPUs, build

    def _gpus_of_a_machine(self, shards: int, machines: int) -> int:
        figures, wish = self.figures, self.wish
        products = wish.products / shards
        size = 2.0 * self.sizes.columns * products
        search = figures[known.GPU_BATCH_MS] / 128 * products / MILLION * self.sizes.columns / 384
        if products > MILLION:
            search = figures.derive(
                "exact search of a shard on GPUs", search, "GPU-ms", "in proportion to the products"
            )
        encode = 0.0 if self.sizes.is_unified else figures[known.GPU_ENCODE_MS]
        by_work = wish.qps * (search + encode) / (1000 * figures[known.USED] * machines)
        return math.ceil(max(size / (0.8 * wish.gpu_memory_bytes), by_work))

    def _build_s(self) -> float:
        figures, wish = self.figures, self.wish
        build = figures[known.BUILD_MS] * wish.products / 1000 / wish.cores
        if wish.gpus:
            encode = figures[known.GPU_ENCODE_MS] * wish.products / 1000
        else:
            encode = figures[known.ENCODE_MS] * wish.products / 1000 / wish.cores
        return figures.derive(
            "build",
            build + encode,
            "s",
            "in proportion to products and cores; the lists of an index are not in it: nobody measured them",
        )
