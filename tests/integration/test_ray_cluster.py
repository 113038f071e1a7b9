"""A Ray cluster of several nodes that somebody else runs: a service joins it, a build encodes on it, a node is lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from loadtest.benchmarks.service import free_port
from models.arrays import Floats
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.sources import sample_source
from models.text_encoder.embed_products import TextEmbedding
from models.text_encoder.spec import Text
from serving.cli.main import app
from serving.ray_encoding import encoding_on_ray

PRODUCTS = 3_000
GATEWAYS = "gateways"  # a resource of one node


class Nodes:
    """A head that computes nothing, a node for gateways alone, and two workers.

    A node is kept as it is added: Ray lists the nodes of a cluster in no order.
    """

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.address: str = self.cluster.address
        self.gateways = self.cluster.add_node(num_cpus=0, resources={GATEWAYS: 1})
        self.workers = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def lose_a_worker(self) -> None:
        self.cluster.remove_node(self.workers.pop())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Greeting:
    """Something else that the cluster serves."""

    def __call__(self) -> str:
        return "hello"


def greets(cluster: Nodes) -> bool:
    """Whether the other application of the cluster answers."""
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(proxy_location="Disabled")
        if "greeting" not in serve.status().applications:
            serve.run(Greeting.bind(), name="greeting", route_prefix=None)
        answer: str = serve.get_app_handle("greeting").remote().result(timeout_s=60)
        return answer == "hello" and "aisle" not in serve.status().applications
    finally:
        ray.shutdown()


def serving(bundle: Path, address: str, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "aisle.toml").write_text(f'[server]\nreplicas = 2\nray_resource = "{GATEWAYS}"\n')
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--port", str(free_port())]
    command += ["--config", str(folder / "aisle.toml")]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "NO_COLOR": "1"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*command, "--ray-address", address], stdout=log, stderr=log, env=environment)


def test_a_service_that_joins_a_cluster_ends_alone(cluster: Nodes, shop_bundle: Path, tmp_path: Path) -> None:
    assert greets(cluster)
    for address, code, says in (("127.0.0.1:1", 1, "no Ray cluster answers"), (cluster.address, 0, " serving ")):
        process = serving(shop_bundle, address, tmp_path)
        try:
            give_up = time.monotonic() + 240
            while says not in (text := (tmp_path / "log").read_text()) and time.monotonic() < give_up:
                time.sleep(0.2)
            assert says in text
            if code == 0:
                # Ray starts a process of a node below the raylet of that node.
                pids = re.findall(r"gateway ready .*pid=(\d+)", text)
                nodes = {psutil.Process(int(pid)).ppid() for pid in pids}
                assert (len(pids), nodes) == (2, {cluster.gateways.all_processes["raylet"][0].process.pid})
                process.terminate()
            assert process.wait(timeout=120) == code, (tmp_path / "log").read_text()
        finally:
            process.kill()
        assert greets(cluster)


def build_arguments(out: Path, encoder: Path, *more: str) -> list[str]:
    return ["build", "--sample", str(PRODUCTS), "--out", str(out), "--encoder", str(encoder), *more]


def test_a_cluster_gives_the_vectors_of_one_machine_also_if_it_loses_a_node(
    cluster: Nodes, exported_encoder: Path, tmp_path: Path
) -> None:
    here = CliRunner().invoke(app, build_arguments(tmp_path / "here", exported_encoder))
    assert here.exit_code == 0, here.output
    there = CliRunner().invoke(
        app,
        build_arguments(tmp_path / "there", exported_encoder, "--ray-address", cluster.address, "--ray-workers", "2"),
    )
    assert there.exit_code == 0, there.output
    expected = np.asarray(Bundle(tmp_path / "here").vectors())
    assert np.array_equal(Bundle(tmp_path / "there").vectors(), expected)

    with encoding_on_ray(cluster.address) as encode:

        def losing(folder: Path, blocks: Iterator[list[Text]]) -> Iterator[Floats]:
            for number, vectors in enumerate(encode(folder, blocks)):
                if number == 0:
                    cluster.lose_a_worker()
                yield vectors

        source = sample_source(PRODUCTS, 0)
        recipe = Recipe("lost", encoder=str(exported_encoder))
        embedding = TextEmbedding.for_recipe(recipe, source.text_attributes, losing)
        build_bundle(source, recipe, tmp_path / "lost", lambda *_: None, embedding=embedding)
    assert np.array_equal(Bundle(tmp_path / "lost").vectors(), expected)


def test_an_address_without_a_cluster_is_one_line(exported_encoder: Path, tmp_path: Path) -> None:
    nowhere = build_arguments(tmp_path / "nowhere", exported_encoder)
    result = CliRunner().invoke(app, [*nowhere, "--ray-address", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in result.output
    assert "Traceback" not in result.output
    assert "HOST:PORT" in CliRunner().invoke(app, [*nowhere, "--ray-address", "head"]).output
    assert "--ray-workers needs --ray-address" in CliRunner().invoke(app, [*nowhere, "--ray-workers", "2"]).output
