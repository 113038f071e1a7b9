"""The edge as its callers and its gateways see it: a real process, real gRPC, gateways in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aisle.v1 import search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from serving.config import AisleConfig
from serving.edge.door import MAX_CALLER_READS
from serving.edge.keys import new_key
from serving.errors import Unavailable
from tests.real_edge import SEARCH, Searching, Streaming, channel, edge_config, gateway

WAIT_S = 60  # a guard against hanging, not a bound on speed


GATEWAY = """
import asyncio, sys
from pathlib import Path
from tests.real_edge import Searching, edge_config, gateway

async def main():
    config = edge_config(server={"port": int(sys.argv[1])})
    async with gateway(config, Path(sys.argv[0]).parent, [Searching(config)]):
        print("serving", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def config() -> AisleConfig:
    return edge_config()


async def search(opened: grpc.aio.Channel, timeout: float | None = WAIT_S, **more: object) -> search_pb2.SearchResponse:
    stub = search_pb2_grpc.SearchServiceStub(opened)
    return await stub.Search(search_pb2.SearchRequest(query="sofa"), timeout=timeout, **more)


async def code_of(opened: grpc.aio.Channel, timeout: float | None = WAIT_S, **more: object) -> grpc.StatusCode:
    try:
        await search(opened, timeout, **more)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def until(is_true: object) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_true():  # type: ignore[operator]  # noqa: ASYNC110 - what it waits for is in another process
            await asyncio.sleep(0.01)


class Gate:
    """An answer that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = 0
        self.open = asyncio.Event()

    async def answer(self) -> search_pb2.SearchResponse:
        self.entered += 1
        await self.open.wait()
        return search_pb2.SearchResponse()


def health(opened: grpc.aio.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(opened)


async def test_a_gateway_gets_what_it_needs_to_know_of_a_call(config: AisleConfig, tmp_path: Path) -> None:
    service = Searching(config)
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        await search(opened, timeout=5, metadata=(("x-request-id", "mine"),))
    (call,) = service.calls
    assert call.request_id == "mine"
    assert call.caller == "ipv4:127.0.0.1"
    assert 0 < call.deadline - call.started <= 5
    assert service.guard.log.ended == {("Search", "OK"): 1}


async def test_a_call_without_a_deadline_gets_the_longest(tmp_path: Path) -> None:
    config = edge_config(server={"max_deadline_ms": 200})
    service = Searching(config)
    gate = Gate()
    service.answer = gate.answer
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        assert await code_of(opened, timeout=None) is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_whose_message_never_comes_whole_ends_at_its_deadline(tmp_path: Path) -> None:
    """A client that sends headers and half a message, and sets no deadline."""
    config = edge_config(server={"max_deadline_ms": 300})
    service = Searching(config)
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        call = opened.stream_unary(SEARCH)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, WAIT_S)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not arrive" in str(caught.value.details())
        empty = opened.stream_unary(SEARCH)()
        await empty.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(empty, WAIT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await code_of(opened) is grpc.StatusCode.OK
    assert len(service.calls) == 1


async def test_unfinished_messages_of_one_caller_do_not_keep_out_another(tmp_path: Path) -> None:
    """A caller's uploads are read a few at a time; the next begins when one has ended."""
    key_a, line_a = new_key("a", ["search"])
    key_b, line_b = new_key("b", ["search"])
    (tmp_path / "keys").write_text(f"{line_a}\n{line_b}\n", encoding="utf-8")
    config = edge_config(auth={"keys_file": str(tmp_path / "keys")})
    service = Searching(config)
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        header_a, header_b = ((("authorization", f"Bearer {key}"),) for key in (key_a, key_b))
        hanging = [opened.stream_unary(SEARCH)(metadata=header_a, timeout=WAIT_S) for _ in range(MAX_CALLER_READS)]
        for call in hanging:
            await call.initiate_stream() if hasattr(call, "initiate_stream") else None
        assert await code_of(opened, metadata=header_b) is grpc.StatusCode.OK
        waiting = asyncio.ensure_future(code_of(opened, metadata=header_a))
        await asyncio.sleep(0.3)
        hanging[0].cancel()
        assert await waiting is grpc.StatusCode.OK
        for call in hanging:
            call.cancel()


async def test_without_a_key_no_message_is_read(tmp_path: Path) -> None:
    _, line = new_key("web", ["search"])
    (tmp_path / "keys").write_text(f"{line}\n", encoding="utf-8")
    config = edge_config(auth={"keys_file": str(tmp_path / "keys")})
    async with gateway(config, tmp_path, [Searching(config)]), channel(config) as opened:
        call = opened.stream_unary(SEARCH)(timeout=WAIT_S)  # sends nothing: the answer does not wait for it
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_quotas_of_a_key_are_told_and_end(tmp_path: Path) -> None:
    key, line = new_key("small", ["search"])
    (tmp_path / "keys").write_text(f"{line} calls_per_s=1\n", encoding="utf-8")
    config = edge_config(auth={"keys_file": str(tmp_path / "keys")})
    async with gateway(config, tmp_path, [Searching(config)]), channel(config) as opened:
        header = (("authorization", f"Bearer {key}"),)
        codes = [await code_of(opened, metadata=header) for _ in range(2)]
        assert codes == [grpc.StatusCode.OK] * 2
        while await code_of(opened, metadata=header) is grpc.StatusCode.OK:
            pass
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await search(opened, metadata=header)
        status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        told = {detail.TypeName() for detail in status.details}
        assert told == {"google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.QuotaFailure"}
        quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
        for detail in status.details:
            detail.Unpack(quota)
            detail.Unpack(retry)
        assert quota.violations[0].subject == "key:small"
        await asyncio.sleep(retry.retry_delay.ToMilliseconds() / 1000 + 0.1)
        assert await code_of(opened, metadata=header) is grpc.StatusCode.OK


async def test_what_is_too_much_is_refused_and_what_was_admitted_is_answered(
    config: AisleConfig, tmp_path: Path
) -> None:
    service, gate = Searching(config), Gate()
    service.answer = gate.answer
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        calls = [asyncio.ensure_future(code_of(opened)) for _ in range(600)]
        await until(lambda: sum(call.done() for call in calls) + gate.entered == 600)
        assert all(call.result() is grpc.StatusCode.RESOURCE_EXHAUSTED for call in calls if call.done())
        assert any(call.done() for call in calls)
        gate.open.set()
        codes = Counter(await asyncio.gather(*calls))
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert await code_of(opened) is grpc.StatusCode.OK


async def test_a_hundred_calls_at_once_are_no_overload(config: AisleConfig, tmp_path: Path) -> None:
    async with (
        gateway(config, tmp_path, [Searching(config)], speeds=lambda: ((0, 50.0, 0.25),)),
        channel(config) as opened,
    ):
        codes = Counter(await asyncio.gather(*(code_of(opened) for _ in range(100))))
        assert codes == {grpc.StatusCode.OK: 100}


async def test_a_flood_of_one_key_leaves_room_for_another(tmp_path: Path) -> None:
    key_a, line_a = new_key("flood", ["search"])
    key_b, line_b = new_key("light", ["search"])
    (tmp_path / "keys").write_text(f"{line_a}\n{line_b}\n", encoding="utf-8")
    config = edge_config(auth={"keys_file": str(tmp_path / "keys")})
    service, gate = Searching(config), Gate()
    service.answer = gate.answer
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        flood = [
            asyncio.ensure_future(code_of(opened, metadata=(("authorization", f"Bearer {key_a}"),))) for _ in range(600)
        ]
        await until(lambda: any(call.done() for call in flood))
        light = asyncio.ensure_future(code_of(opened, metadata=(("authorization", f"Bearer {key_b}"),)))
        await until(lambda: any(call.key and call.key.name == "light" for call in service.calls) or light.done())
        gate.open.set()
        assert await light is grpc.StatusCode.OK
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in await asyncio.gather(*flood)


async def test_a_caller_that_leaves_ends_its_call(config: AisleConfig, tmp_path: Path) -> None:
    service, gate = Searching(config), Gate()
    service.answer = gate.answer
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        call = asyncio.ensure_future(search(opened))
        await until(lambda: gate.entered == 1)
        call.cancel()
        await until(lambda: service.guard.log.ended == {("Search", "CANCELLED"): 1})


async def test_health_follows_the_gateways(config: AisleConfig, tmp_path: Path) -> None:
    ready = True
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with gateway(config, tmp_path, [Searching(config)], is_ready=lambda: ready), channel(config) as opened:
        service = "aisle.v1.SearchService"
        assert (await health(opened).Check(health_pb2.HealthCheckRequest(service=service))).status == serving
        watching = health(opened).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == serving
        ready = False
        assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == not_serving
        assert await code_of(opened) is grpc.StatusCode.UNAVAILABLE
        ready = True
        assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == serving
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(opened).Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await health(opened).List(health_pb2.HealthListRequest())
        assert set(listed.statuses) == {"", service}


async def test_reflection_tells_the_contract(config: AisleConfig, tmp_path: Path) -> None:
    async with gateway(config, tmp_path, [Searching(config)]), channel(config) as opened:
        asking = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo()
        await asking.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        named = {service.name for service in (await asking.read()).list_services_response.service}
        assert {"aisle.v1.SearchService", "grpc.health.v1.Health"} <= named
        await asking.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="aisle.v1.SearchService"))
        assert (await asking.read()).file_descriptor_response.file_descriptor_proto
        await asking.done_writing()
        assert await asking.code() is grpc.StatusCode.OK


async def test_a_stream_is_read_message_by_message(config: AisleConfig, tmp_path: Path) -> None:
    service = Searching(config)
    async with gateway(config, tmp_path, [service, Streaming(service.guard)]), channel(config) as opened:
        call = shopper_pb2_grpc.ShopperServiceStub(opened).StreamEvents(timeout=WAIT_S)
        for _ in range(20):
            await call.write(shopper_pb2.StreamEventsRequest())
        await call.done_writing()
        assert len((await call).batches) == 20


async def test_an_unknown_method_is_unimplemented(config: AisleConfig, tmp_path: Path) -> None:
    async with gateway(config, tmp_path, [Searching(config)]), channel(config) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await opened.unary_unary("/aisle.v1.SearchService/Find")(b"", timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_edge_is_no_child_of_the_gateway_that_started_it(config: AisleConfig, tmp_path: Path) -> None:
    """Ray kills the children of a worker that ends."""
    async with gateway(config, tmp_path, [Searching(config)]):
        assert not any("serving.edge" in command for command in children_of_this_process())


def children_of_this_process() -> list[str]:
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]


async def test_idle_gateways_take_turns(config: AisleConfig, tmp_path: Path) -> None:
    first, second = Searching(config), Searching(config)
    async with gateway(config, tmp_path, [first]), gateway(config, tmp_path, [second]), channel(config) as opened:
        for _ in range(6):
            assert await code_of(opened) is grpc.StatusCode.OK
    assert (len(first.calls), len(second.calls)) == (3, 3)


async def test_an_update_loses_no_call(config: AisleConfig, tmp_path: Path) -> None:
    """New gateways join, old ones leave, and a client without a retry policy sees nothing."""
    codes: Counter[grpc.StatusCode] = Counter()
    over = False

    async def calls(opened: grpc.aio.Channel) -> None:
        while not over:
            codes[await code_of(opened)] += 1

    async with channel(config) as opened:
        old = gateway(config, tmp_path, [Searching(config)])
        await old.__aenter__()
        calling = [asyncio.ensure_future(calls(opened)) for _ in range(8)]
        for _ in range(5):
            new = gateway(config, tmp_path, [Searching(config)])
            await new.__aenter__()
            seen = codes.total()
            await until(lambda seen=seen: codes.total() >= seen + 50)
            await old.__aexit__(None, None, None)
            seen = codes.total()
            await until(lambda seen=seen: codes.total() >= seen + 50)
            old = new
        over = True
        await asyncio.gather(*calling)
        await old.__aexit__(None, None, None)
    assert set(codes) == {grpc.StatusCode.OK}


async def test_calls_of_a_gateway_that_is_lost_go_to_another(config: AisleConfig, tmp_path: Path) -> None:
    first, second, gate = Searching(config), Searching(config), Gate()
    first.answer = gate.answer
    async with gateway(config, tmp_path, [first]) as lost, channel(config) as opened:
        call = asyncio.ensure_future(code_of(opened))
        await until(lambda: gate.entered == 1)
        async with gateway(config, tmp_path, [second]):
            lost._link.close()  # type: ignore[union-attr]  # as the death of its process does
            assert await call is grpc.StatusCode.OK
            assert len(second.calls) == 1


async def test_calls_of_the_only_gateway_fail_as_unavailable_when_it_is_lost(
    config: AisleConfig, tmp_path: Path
) -> None:
    service, gate = Searching(config), Gate()
    service.answer = gate.answer
    async with gateway(config, tmp_path, [service]) as lost, channel(config) as opened:
        call = asyncio.ensure_future(code_of(opened))
        await until(lambda: gate.entered == 1)
        gate.open.set()
        service.answer = search_pb2.SearchResponse
        lost._link.close()  # type: ignore[union-attr]
        assert await call in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
        async with asyncio.timeout(WAIT_S):  # it joins the edge again
            while await code_of(opened) is not grpc.StatusCode.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_an_edge_that_is_killed_is_started_again(config: AisleConfig, tmp_path: Path) -> None:
    async with gateway(config, tmp_path, [Searching(config)]), channel(config) as opened:
        assert await code_of(opened) is grpc.StatusCode.OK
        os.kill(edge_pid(config), signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while await code_of(opened) is not grpc.StatusCode.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_other_settings_get_another_edge_and_the_old_one_goes(config: AisleConfig, tmp_path: Path) -> None:
    async with gateway(config, tmp_path, [Searching(config)]):
        old = edge_pid(config)
        changed = edge_config(server={"port": config.server.port, "max_deadline_ms": 4321})
        entered = gateway(changed, tmp_path, [Searching(changed)])
        await entered.__aenter__()
    await until(lambda: edge_pid(config) != old)
    async with channel(config) as opened:
        assert await code_of(opened) is grpc.StatusCode.OK
    await entered.__aexit__(None, None, None)


async def test_an_edge_without_gateways_ends_with_their_parent(config: AisleConfig, tmp_path: Path) -> None:
    """The gateways and what started them are killed: nobody is left who could stop the edge."""
    script = tmp_path / "gateway.py"
    script.write_text(GATEWAY, encoding="utf-8")
    command = f'"{sys.executable}" "{script}" {config.server.port} & echo $!; wait'
    parent = subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline().strip() == "serving"
    parent.kill()
    parent.wait()
    os.kill(child, signal.SIGKILL)
    await until(lambda: not is_listening(config.server.port))


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = edge_config(server={"port": taken.getsockname()[1]})
        with pytest.raises(OSError, match=str(config.server.port)):
            async with gateway(config, tmp_path, [Searching(config)]):
                pass


async def test_an_error_of_the_code_tells_the_caller_nothing(config: AisleConfig, tmp_path: Path) -> None:
    service = Searching(config)
    service.raise_(ValueError("secret"))
    async with gateway(config, tmp_path, [service]), channel(config) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await search(opened)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)
        service.raise_(Unavailable("later"))
        assert await code_of(opened) is grpc.StatusCode.UNAVAILABLE
    assert service.guard.log.ended == {("Search", "INTERNAL"): 1, ("Search", "UNAVAILABLE"): 1}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def edge_pid(config: AisleConfig) -> int:
    """The process that took the port last."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    ]
    is_open = "0A"
    inodes = {
        line[9] for line in lines if line[3] == is_open and int(line[1].rpartition(":")[2], 16) == config.server.port
    }
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = {os.readlink(entry) for entry in (folder / "fd").iterdir()}
        except OSError:
            continue
        if links & {f"socket:[{inode}]" for inode in inodes}:
            pids.append(int(folder.name))
    assert pids, "nobody listens"
    return max(pids)
