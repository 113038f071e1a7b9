"""What processes count reaches `/metrics`, whatever becomes of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.config import MetricsConfig
from serving.logs import log
from serving.metrics import table
from serving.metrics.exporter import Exporter, MetricsError
from serving.metrics.metric import close_metrics, open_metrics
from serving.metrics.page import PAGE_BYTES, written_pages

COUNTS = """
import sys, time
from serving.metrics import table
from serving.metrics.metric import open_metrics
open_metrics(sys.argv[1], sys.argv[2])
table.STAGE_FAILED.labels("encoder").inc(3)
table.STAGE_QUEUED_ITEMS.labels("encoder").set(5)
table.STAGE_QUEUE_AGE.labels("encoder").set(float(sys.argv[3]))
table.COMMIT_SECONDS.labels().observe(0.004)
print("counted", flush=True)
time.sleep(60)
"""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    config = MetricsConfig(port=free_port())
    exporter = Exporter(config, tmp_path)
    exporter.url = f"http://127.0.0.1:{config.port}/metrics"  # type: ignore[attr-defined]
    yield exporter
    close_metrics()
    exporter.close()


@pytest.fixture(autouse=True)
def aisle_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("WARNING", log.name)


@pytest.fixture
def counting(tmp_path: Path, exporter: Exporter) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have counted, and wait."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTS, name, str(tmp_path / "log.sock"), age],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, age in (("gateway", "2"), ("stage-encoder", "7"))
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == "counted\n"
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(exporter: Exporter) -> Samples:
    with urllib.request.urlopen(exporter.url) as answer:  # type: ignore[attr-defined]  # noqa: S310
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


ENCODER = (("stage", "encoder"),)


def test_processes_are_added_up_and_gauges_as_their_metric_says(
    exporter: Exporter, counting: list[subprocess.Popen[str]]
) -> None:
    samples = scrape(exporter)
    assert samples["aisle_stage_failed_total", ENCODER] == 6
    assert samples["aisle_stage_queued_items", ENCODER] == 10
    assert samples["aisle_stage_queue_age_seconds", ENCODER] == 7  # the oldest of both
    assert samples["aisle_catalogue_commit_seconds_count", ()] == 2
    assert samples["aisle_catalogue_commit_seconds_sum", ()] == pytest.approx(0.008)
    assert samples["aisle_catalogue_commit_seconds_bucket", (("le", "0.003"),)] == 0
    assert samples["aisle_catalogue_commit_seconds_bucket", (("le", "0.005"),)] == 2
    assert samples["aisle_processes", (("process", "gateway"),)] == 1
    pid = str(counting[0].pid)
    assert samples["process_resident_memory_bytes", (("pid", pid), ("process", "gateway"))] > 1e6


def test_a_killed_process_leaves_its_counts_and_takes_its_gauges(
    exporter: Exporter, counting: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    before = scrape(exporter)
    counting[1].send_signal(signal.SIGKILL)
    counting[1].wait()
    for _ in range(2):  # by its page, and after that is gone
        samples = scrape(exporter)
        assert samples["aisle_stage_failed_total", ENCODER] == before["aisle_stage_failed_total", ENCODER]
        assert samples["aisle_stage_queued_items", ENCODER] == 5
        assert samples["aisle_stage_queue_age_seconds", ENCODER] == 2
        assert ("aisle_processes", (("process", "stage-encoder"),)) not in samples
    assert [page.process for page in written_pages(tmp_path / "metrics")] == ["gateway"]


def test_pages_of_ended_processes_are_taken_over_though_nobody_scrapes(
    exporter: Exporter, counting: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for process in counting:
        process.kill()
        process.wait()
    exporter.sweep()
    assert list((tmp_path / "metrics").iterdir()) == []
    assert scrape(exporter)["aisle_stage_failed_total", ENCODER] == 6


def test_a_scrape_before_any_process_counts_has_every_metric_without_a_value(exporter: Exporter) -> None:
    assert scrape(exporter)["aisle_processes", (("process", "serve"),)] == 1
    assert not any(name.startswith("rpc_") for name, _ in scrape(exporter))


def test_values_that_callers_send_are_read_back_as_they_are(exporter: Exporter, tmp_path: Path) -> None:
    open_metrics("edge", str(tmp_path / "log.sock"))
    name = 'a"b\\c\nd e€'
    table.QUOTA_REFUSED.labels(name).inc()
    assert scrape(exporter)["aisle_quota_refused_total", (("key", name),)] == 1


def test_a_taken_port_is_refused_with_the_name_of_its_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            MetricsError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{port}: Address already"
        ):
            Exporter(MetricsConfig(port=port), tmp_path)


def test_an_address_that_is_not_of_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"metrics\.host"):
        Exporter(MetricsConfig(port=free_port(), host="192.0.2.1"), tmp_path)


def test_without_a_folder_nothing_is_counted(tmp_path: Path) -> None:
    for socket_path in ("", str(tmp_path / "log.sock"), str(tmp_path / "gone" / "log.sock")):
        open_metrics("gateway", socket_path)
        table.STAGE_FAILED.labels("encoder").inc()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_cannot_make_its_page_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").write_text("no folder")
    open_metrics("gateway", str(tmp_path / "log.sock"))
    assert "this process has no metrics" in caplog.text
    table.STAGE_FAILED.labels("encoder").inc()


def test_a_full_disk_costs_the_metrics_of_a_process_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    size = f"size={PAGE_BYTES // 2}"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        open_metrics("gateway", str(tmp_path / "log.sock"))
        table.STAGE_FAILED.labels("encoder").inc()
        assert "No space left on device" in caplog.records[-1].fields["error"]  # type: ignore[attr-defined]
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_page_counts_no_further_series_and_keeps_the_others(
    exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_metrics("edge", str(tmp_path / "log.sock"))
    table.QUOTA_REFUSED.labels("first").inc()
    for number in range(20_000):
        table.QUOTA_REFUSED.labels(f"key-{number}").inc()
        if caplog.records:
            break
    assert "the page is full" in caplog.records[-1].fields["error"]  # type: ignore[attr-defined]
    table.QUOTA_REFUSED.labels("first").inc()
    assert scrape(exporter)["aisle_quota_refused_total", (("key", "first"),)] == 2


def test_a_folder_that_is_gone_leaves_the_metrics_of_processes(exporter: Exporter, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "metrics")
    assert scrape(exporter)["process_cpu_seconds_total", (("pid", str(os.getpid())), ("process", "serve"))] > 0
