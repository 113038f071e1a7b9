"""One run of `aisle serve` on its machine: who can reach it, who may share its port, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.benchmarks.service import Service, free_port, is_serving, served
from models.devices import cuda_is_usable

LISTEN = "0A"
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def running(bundle_folder: Path) -> Iterator[Service]:
    with served(bundle_folder) as service:
        yield service


def serve(bundle: Path, port: int, state: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--port", str(port), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(state), "NO_COLOR": "1"},
    )


def process_tree(root: int) -> list[int]:
    """The process and its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def open_files(pid: int) -> list[str]:
    found = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
            except OSError:
                continue
    except OSError:
        pass
    return found


def listening_addresses(pids: list[int]) -> list[str]:
    sockets = {link for pid in pids for link in open_files(pid)}
    addresses = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == LISTEN and f"socket:[{inode}]" in sockets:
                words = bytes.fromhex(local.rpartition(":")[0])
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                addresses.append(socket.inet_ntop(family, packed))
    return addresses


def private_folder(pids: list[int]) -> Path:
    """The folder of the run, from the files that its processes have open."""
    found = {
        Path(*Path(link).parts[: at + 1])
        for pid in pids
        for link in open_files(pid)
        for at, part in enumerate(Path(link).parts)
        if part.startswith("aisle-") and Path(*Path(link).parts[: at + 1], "owner.json").exists()
    }
    (folder,) = found
    return folder


def is_open_below(pid: int, folder: Path) -> bool:
    return any(link.startswith(f"{folder}/") for link in open_files(pid))


def test_whatever_listens_listens_on_loopback(running: Service) -> None:
    tree = process_tree(running.process.pid)
    folder = private_folder(tree)
    of_folder = [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if is_open_below(int(name), folder)]
    addresses = listening_addresses([*tree, *of_folder])  # the edge is nobody's child
    assert len(addresses) > 3, "Ray alone has as many"
    assert set(addresses) <= LOOPBACK


def test_the_folder_of_a_run_is_closed_to_other_users(running: Service) -> None:
    folder = private_folder(process_tree(running.process.pid))
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
    assert folder.stat().st_uid == os.geteuid()
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    assert {path.name for path in sockets} >= {"raylet", "plasma_store", "log.sock"}
    assert all(len(str(path)) <= 107 for path in sockets)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])  # noqa: S104 - refused
def test_a_second_service_on_the_port_is_refused_with_the_first(
    running: Service, bundle_folder: Path, tmp_path: Path, host: str
) -> None:
    port = int(running.address.rpartition(":")[2])
    config = tmp_path / "aisle.toml"
    config.write_text("[server]\nallow_insecure = true\n")
    second = serve(bundle_folder, port, tmp_path, "--host", host, "--config", str(config))
    output, _ = second.communicate(timeout=240)
    assert second.returncode == 1
    assert f"port {port} is taken by process {running.process.pid} (" in output
    assert is_serving(running.address)


def test_a_port_that_another_program_listens_on_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        service = serve(bundle_folder, port, tmp_path)
        output, _ = service.communicate(timeout=240)
    assert service.returncode == 1
    assert f"port {port} is taken by process {os.getpid()} (" in output


def test_of_two_that_start_at_once_one_serves(bundle_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    both = [serve(bundle_folder, port, tmp_path) for _ in range(2)]
    try:
        ended = wait_until(lambda: [one for one in both if one.poll() is not None])
        assert len(ended) == 1
        assert f"port {port} is taken" in ended[0].communicate()[0]
        wait_until(lambda: is_serving(f"127.0.0.1:{port}"))
        assert [one.poll() for one in both].count(None) == 1
    finally:
        for one in both:
            one.terminate()
        for one in both:
            one.communicate(timeout=240)


def test_a_killed_service_leaves_nothing_and_its_port_is_free_at_once(bundle_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    first = serve(bundle_folder, port, tmp_path)
    wait_until(lambda: is_serving(f"127.0.0.1:{port}"))
    tree = process_tree(first.pid)
    folder = private_folder(tree)
    first.kill()
    first.communicate()
    second = serve(bundle_folder, port, tmp_path)
    try:
        wait_until(lambda: not folder.exists())
        wait_until(lambda: is_serving(f"127.0.0.1:{port}"))
        assert [pid for pid in tree if any(link.startswith(f"{folder}/") for link in open_files(pid))] == []
    finally:
        second.terminate()
        second.communicate(timeout=240)


def test_every_line_of_the_log_is_json_through_a_killed_gateway_and_a_stop(bundle_folder: Path) -> None:
    with served(bundle_folder) as service:
        wait_until(lambda: [line for line in json_lines(service) if line["event"] == "serving"])
        (ready,) = [line for line in json_lines(service) if line["event"] == "gateway ready"]
        os.kill(int(str(ready["pid"])), signal.SIGKILL)
        wait_until(lambda: sum(line["event"] == "gateway ready" for line in json_lines(service)) == 2)
        service.process.terminate()
        service.process.wait(240)
        events = [line["event"] for line in json_lines(service)]
    assert events[0] == "starting"
    assert "stopping" in events


def test_every_line_is_json_when_a_replica_cannot_start_and_the_last_has_the_cause(
    bundle_folder: Path, tmp_path: Path
) -> None:
    if cuda_is_usable():
        pytest.skip("there is a CUDA device")
    config = tmp_path / "aisle.toml"
    config.write_text('[encoder]\ndevice = "cuda"\n')
    service = serve(bundle_folder, free_port(), tmp_path, "--log-format", "json", "--config", str(config))
    output, _ = service.communicate(timeout=240)
    lines = [json.loads(line) for line in output.splitlines()]
    assert service.returncode == 1
    assert [line["event"] for line in lines].count("gateway cannot start") == 1
    assert lines[-1]["event"] == "cannot serve"
    assert "CUDA" in lines[-1]["error"]


def test_every_line_is_json_when_the_start_is_stopped(bundle_folder: Path, tmp_path: Path) -> None:
    service = serve(bundle_folder, free_port(), tmp_path, "--log-format", "json")
    assert service.stdout is not None
    first = service.stdout.readline()
    time.sleep(1)  # it is somewhere in the start of Ray
    service.terminate()
    output, _ = service.communicate(timeout=240)
    events = [json.loads(line)["event"] for line in [first, *output.splitlines()]]
    assert events[0] == "starting"
    assert "serving" not in events
    assert service.returncode == 0


def json_lines(service: Service) -> list[dict[str, object]]:
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def wait_until(condition, seconds: float = 600):  # type: ignore[no-untyped-def]
    """Returns the first true answer of a condition."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def test_a_roll_out_that_lacks_processors_leaves_the_service_as_it_is_and_can_be_stopped(bundle_folder: Path) -> None:
    with served(bundle_folder) as service:
        service.config.write_text('[retriever]\nplacement = "remote"\nnum_cpus = 4096\n')
        service.process.send_signal(signal.SIGHUP)
        time.sleep(5)
        assert is_serving(service.address)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(100) == 0
        (refused,) = service.events("not rolled out; serving as before")
        assert "stage-retriever" in refused["error"] or "stopped before all replicas were up" in refused["error"]
