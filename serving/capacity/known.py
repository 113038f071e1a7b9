"""The figures that a plan begins with, those of `docs/benchmarks.md`: the letters of machines are that page's."""

from __future__ import annotations

from serving.capacity.figure import Figure

PAGE = "docs/benchmarks.md"
HERE = f"{PAGE}, memory of a service"
MIB = 1024.0**2

SERVICE_BYTES = "a service without its gateways"
SHARED_BYTES = "libraries that the gateways of a machine share"
GATEWAY_BYTES = "a gateway's own memory, without networks and products"
NETWORK_RATIO = "a text encoder in memory / its files"
UNIFIED_RATIO = "a unified model in memory / its files"
PRODUCT_BYTES = "a gateway's own memory for a product"
TEXT_MS = "a search with a text encoder"
UNIFIED_MS = "a search with the unified model"
BASE_PRODUCTS = "products of the catalogue of these searches"
REST_MS = "a search of a million products more, but for the index"
EXACT_MS = "exact search of a million vectors of 384"
LISTS_MS = "search of a million vectors of 384 in lists"
LISTS_BYTES = "lists of codes, a product of 384 dimensions"
INDEX_MS = "slowest exact search, above which lists take its place"
P99_60, P99_90 = "p99 at 60 % of the capacity", "p99 at 90 % of the capacity"
P99_MS = "a search where these p99 were measured"
USED = "share of the capacity to plan with"
HANDLE_MS = "a call of a remote stage"
SHARD_MS = "a shard more, for its gateway"
ENCODE_MS = "a product to encode for a build"
BUILD_MS = "a product to build, without its vector"
START_S = "start of a service, 20,000 products"
READ_S = "start: to read and verify a billion bytes"
CORES_PER_GATEWAY = "cores for each gateway process"
CHANGED = "changed products in memory"
GPU_BATCH_MS = "exact search of a million vectors of 384 on a GPU, 128 at once"
GPU_ENCODE_MS = "a query or product to encode on a GPU"

KNOWN = (
    Figure(SERVICE_BYTES, 750 * MIB, "bytes", "measured", HERE),
    Figure(SHARED_BYTES, 160 * MIB, "bytes", "measured", HERE),
    Figure(GATEWAY_BYTES, 235 * MIB, "bytes", "measured", HERE),
    Figure(NETWORK_RATIO, 1.4, "", "measured", f"{HERE}: all-MiniLM-L6-v2, 1.4 to 1.5"),
    Figure(UNIFIED_RATIO, 2.0, "", "measured", f"{HERE}: the recipe 'starter' with its classifier, 1.8 to 2.3"),
    Figure(PRODUCT_BYTES, 110, "bytes", "measured", f"{HERE}: 60 to 130, from 20,000 to 200,000 products"),
    Figure(TEXT_MS, 6.6, "core-ms", "measured", f"{PAGE}, machine D, 64 clients; the load generator's work is in it"),
    Figure(
        UNIFIED_MS, 5.1, "core-ms", "measured", f"{PAGE}, machine D, 64 clients; the load generator's work is in it"
    ),
    Figure(BASE_PRODUCTS, 20_000, "products", "measured", f"{PAGE}: the simulated catalogue"),
    Figure(
        REST_MS,
        2.9 - 0.85,
        "core-ms",
        "measured",
        f"{PAGE}, machine C, in process: 2.9 ms at a million, 0.85 ms at 20,000 in batches of eight",
    ),
    Figure(EXACT_MS, 62, "core-ms", "measured", f"{PAGE}, vector index"),
    Figure(LISTS_MS, 0.76, "core-ms", "measured", f"{PAGE}, vector index; recall@100 .985, of short queries .915"),
    Figure(INDEX_MS, 2, "ms", "assumed", "as 'aisle build --latency-ms' has it by default; the tuner measures"),
    Figure(LISTS_BYTES, 110, "bytes", "measured", f"{PAGE}, vector index: 878 bytes less the vector's 768"),
    Figure(P99_60, 33, "ms", "measured", f"{PAGE}, machine C, two gateways on two cores, 650 searches/s"),
    Figure(P99_90, 70, "ms", "measured", f"{PAGE}, machine C, two gateways on two cores, 650 searches/s"),
    Figure(P99_MS, 2000 / 650, "core-ms", "measured", f"{PAGE}, machine C: 650 searches/s on two cores"),
    Figure(
        USED,
        0.6,
        "",
        "measured",
        f"{PAGE}, machine C: five updates at 60 % failed and refused no call, at 90 % 344 were refused",
    ),
    Figure(HANDLE_MS, 6, "ms", "measured", f"{PAGE}, design measurements: 4 to 6 ms"),
    Figure(SHARD_MS, 0.5, "core-ms", "assumed", "nothing was measured with several shards"),
    Figure(
        ENCODE_MS,
        2 * 22_000 / 19_406,
        "core-ms",
        "measured",
        f"{PAGE}, machine C, all-MiniLM-L6-v2 in 8 bits, real texts",
    ),
    Figure(
        BUILD_MS,
        2 * 25_000 / 19_406,
        "core-ms",
        "measured",
        f"{PAGE}, machine C: 47 s less 22 s, 19,406 real products with 4,832 attributes",
    ),
    Figure(START_S, 15, "s", "measured", f"{PAGE}: 10 to 15 s"),
    Figure(
        READ_S, 3, "s", "measured", f"{HERE}: 0.4 s for 133 MB more, from the page cache; a cold disk adds its own time"
    ),
    Figure(
        CORES_PER_GATEWAY, 2, "", "assumed", "Python runs one thread of a process at a time; stages use a second core"
    ),
    Figure(CHANGED, 50_000, "products", "assumed", "[catalogue] compact_after, until the next generation"),
    Figure(GPU_BATCH_MS, 3.5, "GPU-ms", "measured", f"{PAGE}, H100"),
    Figure(GPU_ENCODE_MS, 1000 / 19_855, "GPU-ms", "measured", f"{PAGE}, H100, all-MiniLM-L6-v2, short texts"),
)
