"""Every metric of the product, but for what `serving.metrics.exporter` reads of processes and GPUs by itself.

Names and labels are for dashboards: a change of one breaks them. No label has a value that callers choose freely; the names of keys
are bounded by the keys file.
"""

from __future__ import annotations

from serving.metrics.metric import Counter, Gauge, Histogram, Merge

# Most phases take a millisecond or a few: the usual buckets, which begin at 5 ms, would show nothing.
SECONDS = (
    0.0003, 0.0006, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COSTS = (1, 4, 16, 64, 256, 1024, 4096, 16_384)
RESULTS = (0, 1, 5, 24, 100)

# Calls, as the edge sees them: each is counted once, whoever refused or answered it.
CALL_SECONDS = Histogram(
    "rpc_server_call_duration_seconds",
    "Time from the arrival of a call to its answer.",
    ("rpc_method", "rpc_response_status_code"),
    bounds=SECONDS,
)
IN_FLIGHT = Gauge("aisle_requests_in_flight", "Calls that have arrived and not ended.", ("rpc_method",))
DEADLINE_SECONDS = Histogram(
    "aisle_deadline_remaining_seconds", "Time that a call has left when it arrives.", ("rpc_method",), bounds=SECONDS
)
AUTH_REFUSED = Counter(
    "aisle_auth_refused_total", "Calls without a known key (its name is empty), or without the scope.", ("key",)
)
QUOTA_REFUSED = Counter("aisle_quota_refused_total", "Calls of keys that have used up what they may.", ("key",))
GATEWAYS_READY = Gauge("aisle_gateways_ready", "Gateways that take calls.")

# Stages, as the gateways see them.
STAGE_QUEUE_SECONDS = Histogram(
    "aisle_stage_queue_seconds", "Time that an item waited for its batch.", ("stage", "placement"), bounds=SECONDS
)
STAGE_COMPUTE_SECONDS = Histogram(
    "aisle_stage_compute_seconds",
    "Time of a batch; of a remote stage with the way there and back.",
    ("stage", "placement"),
    bounds=SECONDS,
)
STAGE_BATCH_ITEMS = Histogram("aisle_stage_batch_items", "Items of a batch.", ("stage",), bounds=ITEMS)
STAGE_BATCH_COST = Histogram(
    "aisle_stage_batch_cost", "Cost of a batch; of texts their tokens.", ("stage",), bounds=COSTS
)
STAGE_QUEUED_ITEMS = Gauge("aisle_stage_queued_items", "Items that wait.", ("stage",))
STAGE_QUEUED_COST = Gauge("aisle_stage_queued_cost", "Cost of the items that wait.", ("stage",))
STAGE_QUEUE_AGE = Gauge(
    "aisle_stage_queue_age_seconds", "How long the oldest item has waited.", ("stage",), merge=Merge.MAX
)
STAGE_REPLICAS = Gauge(
    "aisle_stage_replicas", "Replicas that a gateway can call; of a local stage 1.", ("stage",), merge=Merge.MAX
)
STAGE_REFUSED = Counter("aisle_stage_refused_total", "Items that were not computed.", ("stage", "reason"))
STAGE_FAILED = Counter("aisle_stage_failed_total", "Items whose computation failed.", ("stage",))

# Answers of Search and Rank.
DEGRADATIONS = Counter("aisle_degradations_total", "Answers that lack a part.", ("method", "part"))
RANKED_BY = Counter("aisle_ranked_by_total", "Answers by the model that ranked them.", ("method", "model"))
PERSONALISED = Counter(
    "aisle_personalised_total", "Answers by where the shopper's events came from.", ("method", "source")
)
RESULTS_FOUND = Histogram("aisle_results", "Hits of a search, on all its pages.", ("locale",), bounds=RESULTS)
ZERO_RESULTS = Counter("aisle_zero_results_total", "Searches without a hit.", ("locale",))
CORRECTED_QUERIES = Counter(
    "aisle_corrected_queries_total", "Searches whose typing errors were corrected.", ("locale",)
)
IDENTIFIER_HITS = Counter(
    "aisle_identifier_hits_total", "Searches whose query named a product's identifier.", ("locale",)
)

# Shoppers.
STORE_SECONDS = Histogram(
    "aisle_shopper_store_seconds", "Time of an operation of the shopper store.", ("op",), bounds=SECONDS
)
STORE_FAILED = Counter("aisle_shopper_store_failed_total", "Operations of the shopper store that failed.", ("op",))
EVENTS = Counter("aisle_events_recorded_total", "Events that were sent, by what became of them.", ("result",))
SHOPPER_CACHE = Counter("aisle_shopper_cache_total", "Stored shoppers that a search asked for.", ("result",))

# The catalogue.
CATALOGUE_SEQUENCE = Gauge("aisle_catalogue_sequence", "Latest change that a gateway has applied.", merge=Merge.MAX)
CATALOGUE_LAG = Gauge(
    "aisle_catalogue_applied_lag", "Changes of the log that the slowest process has yet to apply.", merge=Merge.MAX
)
CATALOGUE_PRODUCTS = Gauge("aisle_catalogue_products", "Products that can be found.", merge=Merge.MAX)
OVERLAY_ROWS = Gauge("aisle_catalogue_overlay_rows", "Rows that changes have added to the generation.", merge=Merge.MAX)
TOMBSTONES = Gauge("aisle_catalogue_tombstones", "Rows that changes have removed.", merge=Merge.MAX)
GENERATION_AGE = Gauge(
    "aisle_catalogue_generation_age_seconds", "Time since the served generation was built.", merge=Merge.MAX
)
COMMIT_SECONDS = Histogram(
    "aisle_catalogue_commit_seconds", "Time until the log has the changes of a call.", bounds=SECONDS
)
BUNDLE_INFO = Gauge(
    "aisle_bundle_info", "1 for each bundle that is served.", ("bundle", "version", "index"), merge=Merge.MAX
)

# The gateways themselves.
LOOP_LAG = Histogram("aisle_event_loop_lag_seconds", "How late a gateway's event loop is.", bounds=SECONDS)
GC_SECONDS = Histogram(
    "aisle_gc_seconds",
    "Time of a garbage collection but of the youngest, in which no other Python runs.",
    ("generation",),
    bounds=SECONDS,
)
