"""What asyncio and anyio import for nothing is put off, and is there when it is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRELUDE = "from podlite import late_imports; late_imports.install(); import asyncio, anyio, sys\n"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_small_pods_path_imports_no_ssl() -> None:
    """10 ms of the 60 that asyncio and anyio take; the modules are what `podlite run` has loaded when a pod runs."""
    program = """
import anyio._backends._asyncio
from podlite.cli import run, run_pods
from podlite.runtime.network import builtin
async def main():
    read, write = __import__("os").pipe()
    __import__("os").write(write, b"x")
    from podlite.readiness import wait_readable, wait_writable, notify_closing
    await wait_readable(read)
    await wait_writable(write)
    notify_closing(read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, lambda: None)
anyio.run(main)
print([name for name in ("_ssl", "anyio.streams.tls") if name in sys.modules])
"""
    assert run(program) == "[]\n"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import ssl; print(ssl.create_default_context().verify_mode.name)", "CERT_REQUIRED"),
        ("from ssl import SSLContext, CERT_NONE; print(CERT_NONE.name)", "CERT_NONE"),
        ("import ssl; print(hasattr(ssl, 'no such name'), hasattr(ssl, 'SSLContext'))", "False True"),
        ("print(asyncio.sslproto.SSLProtocol.__name__)", "SSLProtocol"),
        ("print(anyio.connect_tcp.__name__, anyio.wait_readable.__name__)", "connect_tcp wait_readable"),
        ("from anyio.streams.tls import TLSStream; print(TLSStream.__name__)", "TLSStream"),
        (
            "import anyio._core._sockets as sockets; print(sockets.convert_ipv6_sockaddr(('::1', 80, 0, 0)))",
            "('::1', 80)",
        ),
        ("import httpx, ssl; print(issubclass(ssl.SSLError, OSError))", "True"),
        ("import importlib, ssl; importlib.reload(ssl); print(ssl.OPENSSL_VERSION[:7])", "OpenSSL"),
    ],
)
def test_all_of_it_is_there_when_it_is_asked_for(program: str, said: str) -> None:
    assert run(program) == f"{said}\n"


def test_threads_that_ask_at_once() -> None:
    program = """
import ssl, threading
found, barrier = [], threading.Barrier(8)
def ask():
    barrier.wait()
    found.append((ssl.SSLContext, ssl.create_default_context().__class__ is ssl.SSLContext))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)), found[0][1])
"""
    assert run(program) == "8 1 True\n"


def test_tls_works_with_it() -> None:
    """Both ends in one process, by asyncio and by anyio, with a certificate that is trusted for this only."""
    pytest.importorskip("trustme")
    program = """
import ssl, trustme
from podlite import late_imports
authority = trustme.CA()
server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
authority.issue_cert("localhost").configure_cert(server_context)
context = ssl.create_default_context()
authority.configure_trust(context)
async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(b"asyncio\\n")
    print((await reader.read()).decode(), end="")
    writer.close()
    stream = await anyio.connect_tcp("127.0.0.1", port, tls=True, ssl_context=context, tls_hostname="localhost")
    async with stream:
        await stream.send(b"anyio\\n")
        print((await stream.receive()).decode(), end="")
    server.close()
anyio.run(main)
"""
    assert run(program) == "ASYNCIO\nANYIO\n"
