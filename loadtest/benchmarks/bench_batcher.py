"""The pull batcher against `@serve.batch`."""

from __future__ import annotations

from ray import serve

from loadtest.benchmarks import batching_replica
from loadtest.benchmarks.setup import Setup, ratios
from serving import cluster
from serving.run_folder import run_folder


def bench_batcher(setup: Setup) -> None:
    """The pull batcher against `@serve.batch` with its defaults, on one simulated device; and its cost when idle."""
    ours, theirs, idle = [], [], []
    with run_folder() as folder:
        cluster.start_ray(folder)
        # Not held back by Serve's own limit of calls in progress, which `@serve.batch` asks for.
        replica = serve.deployment(
            batching_replica.BatchingReplica, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100_000
        )
        try:
            handle = serve.run(replica.bind(), route_prefix=None)
            for number in range(setup.rounds):
                setup.say(f"round {number + 1}")
                ours.append(handle.pulled.remote(setup.seconds).result())
                theirs.append(handle.stock.remote(setup.seconds).result())
                idle.append(handle.idle_wait_ms.remote(2000).result())
        finally:
            cluster.stop(is_own=True)
    add = setup.figures.add
    note = f"simulated device, {batching_replica.DEVICE_MS:.0f} ms a batch, {batching_replica.RATE:.0f} calls/s"
    add("batcher", "mean batch, pulled", "items", [r.mean_batch for r in ours], note=note)
    add("batcher", "mean batch, @serve.batch", "items", [r.mean_batch for r in theirs], note="defaults")
    ratio = ratios([r.mean_batch for r in ours], [r.mean_batch for r in theirs])
    add("batcher", "mean batch, pulled / @serve.batch", "ratio", ratio, goal=">= 3")
    add("batcher", "p50, pulled", "ms", [r.p50_ms for r in ours])
    add("batcher", "p50, @serve.batch", "ms", [r.p50_ms for r in theirs], note="grows with the run: it cannot keep up")
    add("batcher", "wait added when idle", "ms", idle, goal="< 0.2")
