"""The streaming server: exec, attach and port-forward, over every protocol that clients of Kubernetes speak.

Channels, headers and final statuses are those of k8s.io/cri-streaming and k8s.io/client-go/tools/remotecommand.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import pytest
import trustme
from anyio.abc import ByteStream

from podlite.cri.errors import CRIError, NotFoundError, UnavailableError
from podlite.rpc.server import serve
from podlite.rpc.streaming import portforward
from podlite.rpc.streaming.dial import dial, dial_command, dial_port
from podlite.rpc.streaming.server import open_streaming
from podlite.rpc.streaming.spdy import SpdyConnection
from podlite.rpc.streaming.websocket import WebSocketByteStream
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.conformance.test_conformance_runtime import code_of
from tests.support.containers import read_log
from tests.support.cri_wire import Client
from tests.support.websocket_client import Refused, WebSocketClient, websocket

pytestmark = [pytest.mark.root, pytest.mark.anyio]

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


@pytest.fixture
async def container(client: Client, layout: Layout) -> str:
    """A container in which something can be executed."""
    sandbox, config = await client.sandbox(layout)
    return await client.container(sandbox, config, ["/bin/sleep", "1000"])


async def exec_url(client: Client, container: str, script: str, **streams: bool) -> str:
    wanted = streams or {"stdout": True, "stderr": True}
    answer = await client.Exec(container_id=container, cmd=["/bin/sh", "-c", script], **wanted)
    return str(answer.url)


# --- exec over a WebSocket ------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_exec_over_a_websocket(client: Client, container: str, protocol: str) -> None:
    url = await exec_url(client, container, "echo out; echo err >&2; exit 7")
    async with websocket(url, protocol) as connection:
        assert connection.protocol == protocol
        got = await connection.collect()
    assert (got[STDOUT], got[STDERR]) == (b"out\n", b"err\n")
    status = json.loads(got[ERROR])
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_success_is_told(client: Client, container: str) -> None:
    async with websocket(await exec_url(client, container, "true"), V5) as connection:
        assert json.loads((await connection.collect())[ERROR])["status"] == "Success"


async def test_the_newest_protocol_that_both_speak(client: Client, container: str) -> None:
    async with websocket(await exec_url(client, container, "true"), V4, V5, "channel.k8s.io") as connection:
        assert connection.protocol == V5


async def test_the_end_of_the_input_in_v5(client: Client, container: str) -> None:
    """KEP-4006: [255, channel] closes a channel; the process then sees the end of its input."""
    url = await exec_url(client, container, "cat; echo over", stdin=True, stdout=True)
    async with websocket(url, V5) as connection:
        await connection.send(bytes([STDIN]) + b"one ")
        await connection.send(bytes([STDIN]) + b"two\n")
        await connection.send(bytes([CLOSE, STDIN]))
        assert (await connection.collect())[STDOUT] == b"one two\nover\n"


async def test_a_terminal_and_its_size(client: Client, container: str) -> None:
    script = 'trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.01; done'
    url = await exec_url(client, container, script, tty=True, stdin=True, stdout=True)
    async with websocket(url, V5) as connection:
        text = b""
        while b"ready" not in text:
            message = await connection.receive()
            assert message is not None
            text += message[1:]
        await connection.send(bytes([RESIZE]) + json.dumps({"Width": 132, "Height": 43}).encode())
        assert b"43 132" in (await connection.collect())[STDOUT]


async def test_a_lot_of_output_comes_whole(client: Client, container: str) -> None:
    url = await exec_url(client, container, "head -c 3000000 /dev/zero", stdout=True)
    async with websocket(url, V5) as connection:
        assert len((await connection.collect())[STDOUT]) == 3_000_000


async def test_what_cannot_be_executed_is_an_internal_error(client: Client, container: str) -> None:
    answer = await client.Exec(container_id=container, cmd=["/no/such/program"], stdout=True)
    async with websocket(answer.url, V5) as connection:
        status = json.loads((await connection.collect())[ERROR])
    assert (status["status"], status["reason"], status["code"]) == ("Failure", "InternalError", 500)
    assert "/no/such/program" in status["message"]


async def test_an_exec_ends_with_its_client(client: Client, container: str) -> None:
    url = await exec_url(client, container, "echo $$; exec sleep 2000", stdout=True)
    async with websocket(url, V5) as connection:
        while not (message := await connection.receive() or b"")[1:]:
            pass
    pid = message[1:].strip().decode()
    with anyio.fail_after(60):
        while (await client.ExecSync(container_id=container, cmd=["test", "-e", f"/proc/{pid}"])).exit_code == 0:
            await anyio.sleep(0.01)


async def test_a_background_process_does_not_hold_the_stream(client: Client, container: str) -> None:
    url = await exec_url(client, container, "sleep 3000 & echo done", stdout=True)
    async with websocket(url, V5) as connection:
        with anyio.fail_after(60):
            got = await connection.collect()
    assert got[STDOUT] == b"done\n"
    assert json.loads(got[ERROR])["status"] == "Success"


# --- exec over SPDY -------------------------------------------------------------------------------


async def test_exec_over_spdy(client: Client, container: str) -> None:
    script = "cat; echo err >&2; exit 9"
    url = await exec_url(client, container, script, stdin=True, stdout=True, stderr=True)
    async with anyio.create_task_group() as tasks:
        async with await dial_command(url, tasks, tty=False, stdin=True, stdout=True, stderr=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdin.send(b"in and out")
            await process.stdin.aclose()
            assert b"".join([chunk async for chunk in process.stdout]) == b"in and out"
            assert b"".join([chunk async for chunk in process.stderr]) == b"err\n"
            assert await process.wait() == 9
        tasks.cancel_scope.cancel()


async def test_a_terminal_over_spdy(client: Client, container: str) -> None:
    script = 'trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.01; done'
    url = await exec_url(client, container, script, tty=True, stdin=True, stdout=True)
    async with anyio.create_task_group() as tasks:
        async with await dial_command(url, tasks, tty=True, stdin=True, stdout=True, stderr=False) as process:
            assert process.stdout is not None
            text = b""
            while b"ready" not in text:
                text += await process.stdout.receive()
            await process.resize(120, 40)
            text += b"".join([chunk async for chunk in process.stdout])
            assert b"40 120" in text
            assert await process.wait() == 0
        tasks.cancel_scope.cancel()


async def test_a_client_that_does_not_read_holds_up_nobody(client: Client, container: str) -> None:
    url = await exec_url(client, container, "cat /dev/zero", stdout=True)
    async with websocket(url, V5) as connection:
        assert await connection.receive() is not None
        # It is full now, and the process waits. Everybody else does not.
        answer = await client.ExecSync(container_id=container, cmd=["echo", "alive"])
        assert answer.stdout == b"alive\n"


# --- attach ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_attach_over_a_websocket(client: Client, layout: Layout, protocol: str) -> None:
    sandbox, config = await client.sandbox(layout)
    script = "while read line; do echo got $line; done; exit 3"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script], stdin=True, stdin_once=True)
    answer = await client.Attach(container_id=id, stdin=True, stdout=True, stderr=True)
    async with websocket(answer.url, protocol) as connection:
        await connection.send(bytes([STDIN]) + b"a line\n")
        text = b""
        while text != b"got a line\n":
            message = await connection.receive()
            assert message is not None
            text += message[1:]
        if protocol == V5:
            # The end of the input is the end of this container, and of the attachment.
            await connection.send(bytes([CLOSE, STDIN]))
            assert json.loads((await connection.collect())[ERROR])["status"] == "Success"
    assert read_log(f"{config.log_directory}/main.log")["stdout"] == b"got a line\n"


async def test_attach_over_spdy_leaves_the_container_running(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    id = await client.container(
        sandbox, config, ["/bin/sh", "-c", "while read line; do echo got $line; done"], stdin=True
    )
    for word in (b"one", b"two"):
        answer = await client.Attach(container_id=id, stdin=True, stdout=True)
        async with anyio.create_task_group() as tasks:
            async with await dial_command(
                answer.url, tasks, tty=False, stdin=True, stdout=True, stderr=False
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.send(word + b"\n")
                assert await process.stdout.receive() == b"got " + word + b"\n"
            tasks.cancel_scope.cancel()


# --- port-forward ---------------------------------------------------------------------------------

SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 8080))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        connection.sendall(b"echo:" + data)
"""


@pytest.fixture
async def listening(client: Client, layout: Layout) -> str:
    """A sandbox in which something listens on port 8080 of the loopback; its id."""
    sandbox, config = await client.sandbox(layout)
    await client.container(sandbox, config, ["python3", "-c", SERVER])
    with anyio.fail_after(60):
        while not read_log(f"{config.log_directory}/main.log")["stdout"]:
            await anyio.sleep(0.01)
    return sandbox


async def echo(stream: ByteStream, data: bytes) -> bytes:
    received = b""
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            await stream.send(data)
            await stream.send_eof()

        tasks.start_soon(send)
        async for chunk in stream:
            received += chunk
    return received


async def test_port_forward_over_spdy(client: Client, listening: str) -> None:
    data = os.urandom(300_000)
    url = (await client.PortForward(pod_sandbox_id=listening, port=[8080])).url
    async with anyio.create_task_group() as tasks:
        async with await dial_port(url, 8080, tasks) as stream:
            assert await echo(stream, data) == b"echo:" + data
        tasks.cancel_scope.cancel()


async def test_many_connections_over_one_port_forward(client: Client, listening: str) -> None:
    """As `kubectl port-forward` does it: a pair of streams for each connection, all over one."""
    url = (await client.PortForward(pod_sandbox_id=listening)).url
    async with anyio.create_task_group() as tasks:
        connection, stream = await dial(url, (portforward.SPDY_PROTOCOL,), tasks)
        async with stream:
            await _echo_over(connection, 10)
        tasks.cancel_scope.cancel()


async def _echo_over(connection: SpdyConnection, count: int) -> None:
    async with anyio.create_task_group() as group:

        async def one(number: int) -> None:
            headers = {"port": "8080", "requestid": str(number)}
            error = await connection.open({"streamtype": "error", **headers})
            data = await connection.open({"streamtype": "data", **headers})
            await error.send_eof()
            assert await echo(data, b"%d" % number) == b"echo:%d" % number
            assert [chunk async for chunk in error] == []

        for number in range(count):
            group.start_soon(one, number)


async def test_spdy_through_a_websocket(client: Client, listening: str) -> None:
    """KEP-4006: port-forward is SPDY, tunnelled through the messages of a WebSocket."""
    url = (await client.PortForward(pod_sandbox_id=listening)).url
    async with websocket(url, portforward.TUNNEL_PROTOCOL) as connection, anyio.create_task_group() as tasks:
        spdy = SpdyConnection(_Tunnel(connection), server=False)
        tasks.start_soon(spdy.serve)
        await _echo_over(spdy, 3)
        tasks.cancel_scope.cancel()


class _Tunnel(WebSocketByteStream):
    """The client's side of a tunnel."""

    def __init__(self, connection: WebSocketClient) -> None:
        self._client = connection

    async def receive(self, max_bytes: int = 65536) -> bytes:
        message = await self._client.receive()
        if message is None:
            raise anyio.EndOfStream
        return message

    async def send(self, item: bytes) -> None:
        await self._client.send(item)


async def test_port_forward_over_channels(client: Client, layout: Layout) -> None:
    """k8s.io/cri-streaming: two channels for each port, each beginning with the port in little-endian order."""
    sandbox, config = await client.sandbox(layout)
    script = SERVER.replace(
        "while chunk := connection.recv(65536):\n            data += chunk", "data = connection.recv(99)"
    )
    await client.container(sandbox, config, ["python3", "-c", script.replace("        while", "        while")])
    with anyio.fail_after(60):
        while not read_log(f"{config.log_directory}/main.log")["stdout"]:
            await anyio.sleep(0.01)
    url = (await client.PortForward(pod_sandbox_id=sandbox, port=[8080, 81])).url
    async with websocket(url, V4) as connection:
        await connection.send(b"\0hello")
        got = await connection.collect()
    assert got[0] == (8080).to_bytes(2, "little") + b"echo:hello"
    assert got[1] == (8080).to_bytes(2, "little")
    assert got[2] == (81).to_bytes(2, "little")
    assert got[3].startswith((81).to_bytes(2, "little"))
    assert b"port 81" in got[3]


async def test_a_port_where_nobody_listens(client: Client, listening: str) -> None:
    url = (await client.PortForward(pod_sandbox_id=listening)).url
    async with anyio.create_task_group() as tasks:
        async with await dial_port(url, 9, tasks) as stream:
            with pytest.raises(UnavailableError, match=r"port 9 of pod .*: Connection refused"):
                await stream.receive()
        tasks.cancel_scope.cancel()


# --- tokens and everything that is refused --------------------------------------------------------


async def test_a_url_works_once(client: Client, container: str) -> None:
    url = await exec_url(client, container, "true")
    assert url.startswith("http://127.0.0.1:")
    async with websocket(url, V5) as connection:
        await connection.collect()
    with pytest.raises(Refused) as refused:
        async with websocket(url, V5):
            pass
    assert refused.value.status == 404
    async with anyio.create_task_group() as tasks:
        with pytest.raises(NotFoundError, match="not known"):
            await dial_command(url, tasks, tty=False, stdin=False, stdout=True, stderr=True)


@pytest.mark.parametrize(
    ("path", "protocol", "status"),
    [("/exec/guessed", V5, 404), ("/nothing", V5, 404), ("/attach/", V5, 404)],
)
async def test_what_is_not_there(client: Client, container: str, path: str, protocol: str, status: int) -> None:
    url = await exec_url(client, container, "true")
    with pytest.raises(Refused) as refused:
        async with websocket(url[: url.index("/exec")] + path, protocol):
            pass
    assert refused.value.status == status


async def test_a_token_of_something_else(client: Client, container: str) -> None:
    url = await exec_url(client, container, "true")
    with pytest.raises(Refused) as refused:
        async with websocket(url.replace("/exec/", "/portforward/"), V4):
            pass
    assert refused.value.status == 404


async def test_a_protocol_that_is_not_spoken(client: Client, container: str) -> None:
    with pytest.raises(Refused) as refused:
        async with websocket(await exec_url(client, container, "true"), "base64.channel.k8s.io"):
            pass
    assert refused.value.status == 403
    async with anyio.create_task_group() as tasks:
        with pytest.raises(CRIError, match=r"403: the client offers v9.channel.k8s.io; this needs v4.channel.k8s.io"):
            await dial(await exec_url(client, container, "true"), ("v9.channel.k8s.io",), tasks)


@asynccontextmanager
async def plain(url: str, request: bytes) -> AsyncIterator[bytes]:
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request)
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        yield answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /exec/x HTTP/1.1", b"400"), (b"DELETE /exec/x HTTP/1.1", b"405"), (b"nonsense", b"")],
)
async def test_requests_that_are_none(client: Client, container: str, request_line: bytes, status: bytes) -> None:
    url = await exec_url(client, container, "true")
    async with plain(url, request_line + b"\r\nHost: x\r\n\r\n") as answer:
        assert answer[9:12] == status


async def test_streams_that_make_no_sense_are_not_offered(client: Client, container: str) -> None:
    """api.proto on ExecRequest: one of the three must be true, and tty and stderr cannot both be."""
    for streams in ({}, {"tty": True, "stdout": True, "stderr": True}):
        for call in (
            client.Exec(container_id=container, cmd=["true"], **streams),
            client.Attach(container_id=container, **streams),
        ):
            assert (await code_of(call))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert (await code_of(client.Exec(container_id=container, stdout=True)))[0] == grpc.StatusCode.INVALID_ARGUMENT


async def test_tls(runtime: Runtime, layout: Layout) -> None:
    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    path = f"unix://{layout.run_dir}/tls.sock"
    async with (
        open_streaming(runtime, tls=ours) as streaming,
        serve(runtime, runtime.images, path, streaming) as socket,
    ):
        client = Client(socket)
        sandbox, config = await client.sandbox(layout)
        container = await client.container(sandbox, config, ["/bin/sleep", "1000"])
        url = await exec_url(client, container, "echo secret")
        assert url.startswith("https://127.0.0.1:")
        async with websocket(url, V5, trust=trust) as connection:
            assert (await connection.collect())[STDOUT] == b"secret\n"
        streams: dict[str, Any] = {"tty": False, "stdin": False, "stdout": True, "stderr": True}
        async with anyio.create_task_group() as tasks:
            async with await dial_command(await exec_url(client, container, "exit 4"), tasks, **streams) as process:
                assert await process.wait() == 4
            tasks.cancel_scope.cancel()
        await client.close()
