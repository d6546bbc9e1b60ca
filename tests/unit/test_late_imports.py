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


def test_a_small_pods_path_executes_none_of_it() -> None:
    """A third of what asyncio, anyio and msgspec take; the modules are what `podlite run` has loaded when a pod runs.

    What anyio says in its class bodies has to be said by the real dataclasses, which are quick without inspect.
    """
    program = """
import signal
import anyio._backends._asyncio
from podlite.api.manifest import load_manifests
from podlite.cli import run, run_pods
from podlite.cli.parser import make_parser, read
from podlite.cli.verbs import VERBS
from podlite.runtime.network import builtin
read(make_parser("run", VERBS["run"], run), run, ["pod.yaml"])
async def main():
    read, write = __import__("os").pipe()
    __import__("os").write(write, b"x")
    from podlite.readiness import wait_readable, wait_writable, notify_closing
    await wait_readable(read)
    await wait_writable(write)
    notify_closing(read)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, lambda: None)
        tasks.start_soon(anyio.sleep_forever)
        with anyio.open_signal_receiver(signal.SIGTERM):
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()
anyio.run(main)
executed = [name for name in late_imports.LATE if name in sys.modules and late_imports.executed(name)]
loaded = [name for name in ("_ssl", "anyio.streams.memory", "anyio.streams.tls") if name in sys.modules]
print(executed, loaded)
"""
    assert run(program) == "['dataclasses'] []\n"


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
        (
            "import subprocess as s; early = (s.PIPE, s.STDOUT, s.DEVNULL); s.Popen;"
            " print(early == (s.PIPE, s.STDOUT, s.DEVNULL), s.run(['echo', 'x'], stdout=s.PIPE).stdout)",
            "True b'x\\n'",
        ),
        ("import importlib, ssl; importlib.reload(ssl); print(ssl.OPENSSL_VERSION[:7])", "OpenSSL"),
    ],
)
def test_all_of_it_is_there_when_it_is_asked_for(program: str, said: str) -> None:
    assert run(program) == f"{said}\n"


def test_what_stands_in_can_be_subscripted() -> None:
    program = """
async def main():
    send, receive = anyio.create_memory_object_stream[bytes](1)
    async with send, receive:
        await send.send(b"came through")
        print(await receive.receive())
anyio.run(main)
"""
    assert run(program) == "b'came through'\n"


def test_the_stack_is_the_callers() -> None:
    """Also the first time, when its module is executed for it."""
    program = """
import traceback
assert not late_imports.executed("traceback")
def caller():
    return [(each.name, each.lineno) for each in traceback.extract_stack(limit=2)]
first, second = [caller() for _ in range(2)]
print(first == second, first[-1][0])
"""
    assert run(program) == "True caller\n"


def test_what_stands_in_says_what_the_real_one_says() -> None:
    program = """
import functools, types
import inspect, platform, typing_extensions, ast, gettext
names = ("getcoroutinestate", "iscoroutine", "iscoroutinefunction", "isfunction", "getsource", "unwrap")
constants = ("CORO_CREATED", "CORO_RUNNING", "CORO_SUSPENDED", "CORO_CLOSED")
stand_ins = {name: getattr(inspect, name) for name in (*names, *constants)}
system, nodes, same = platform.system, dict(vars(ast)), dict(vars(typing_extensions))
translate, plural = gettext.gettext, gettext.ngettext
assert not any(map(late_imports.executed, ("inspect", "platform", "typing_extensions", "ast", "gettext")))

states = []
async def coroutine():
    states.append(stand_ins["getcoroutinestate"](made) + inspect_state(made))
    await suspend()
@types.coroutine
def suspend():
    yield
class Plain:
    def method(self): pass
    async def asynchronous(self): pass
    def __call__(self): pass
@functools.wraps(coroutine)
def wrapped(): pass
callables = [coroutine, wrapped, suspend, Plain, Plain(), Plain().method, Plain().asynchronous, Plain.asynchronous,
             print, functools.partial(coroutine), functools.partial(wrapped), lambda: None, inspect.ismethod, None]
asked = ("iscoroutinefunction", "isfunction")
before = [[stand_ins[name](each) for name in asked] for each in callables]
unwrapped = [stand_ins["unwrap"](each) for each in callables]
# The real ones: all of this has executed it.
for name in names:
    assert getattr(inspect, name) is not stand_ins[name], name
assert before == [[getattr(inspect, name)(each) for name in asked] for each in callables]
assert unwrapped == [inspect.unwrap(each) for each in callables]
for name in constants:
    assert getattr(inspect, name) == stand_ins[name]
assert stand_ins["getsource"](asyncio) == inspect.getsource(asyncio)

inspect_state = inspect.getcoroutinestate
made = coroutine()
states.append(stand_ins["getcoroutinestate"](made) + inspect_state(made))
made.send(None)
states.append(stand_ins["getcoroutinestate"](made) + inspect_state(made))
made.close()
states.append(stand_ins["getcoroutinestate"](made) + inspect_state(made))
print(states)

platform.uname, gettext.find, ast.parse, typing_extensions.Doc
assert all(map(late_imports.executed, ("inspect", "platform", "typing_extensions", "ast", "gettext")))
assert system() == platform.system()
for count in (0, 1, 2):
    assert plural("one", "many", count) == gettext.ngettext("one", "many", count)
assert translate("usage: ") == gettext.gettext("usage: ")
for name in ("NotRequired", "Required"):
    assert same[name] is getattr(typing_extensions, name), name
assert same["TypeVar"]("T", bound=int, default=None).__bound__ is int
nothing = same["sentinel"]("nothing")
assert nothing is not same["sentinel"]("nothing") and repr(nothing) == repr(typing_extensions.sentinel("nothing"))
for name in ("If", "ImportFrom", "Name", "PyCF_ONLY_AST"):
    assert nodes[name] is getattr(ast, name), name
"""
    assert run(program) == (
        "['CORO_CREATEDCORO_CREATED', 'CORO_RUNNINGCORO_RUNNING', 'CORO_SUSPENDEDCORO_SUSPENDED',"
        " 'CORO_CLOSEDCORO_CLOSED']\n"
    )


def test_what_is_logged_by_others_goes_where_it_went() -> None:
    program = """
import concurrent.futures._base as futures, io, logging
assert not late_imports.executed("logging")
asyncio.log.logger.debug("nobody has asked for it")
assert not late_imports.executed("logging") and asyncio.log.logger.name == "asyncio"
heard = io.StringIO()
logging.basicConfig(stream=heard, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
asyncio.log.logger.debug("nobody has asked for it")
asyncio.log.logger.warning("heard %d", 1)
logging.getLogger("asyncio").setLevel(logging.DEBUG)
asyncio.log.logger.debug("heard, too")
futures.LOGGER.critical("cannot be helped")
print(heard.getvalue().splitlines())
"""
    assert run(program) == (
        "['asyncio WARNING heard 1', 'asyncio DEBUG heard, too', 'concurrent.futures CRITICAL cannot be helped']\n"
    )


def test_a_logger_of_somebody_elses_is_real_at_once() -> None:
    program = """
import logging
ours = logging.getLogger("ours")
ours.addHandler(logging.NullHandler())
print(type(ours).__name__, type(logging.getLogger()).__name__, [type(each).__name__ for each in ours.handlers])
"""
    assert run(program) == "Logger RootLogger ['NullHandler']\n"


def test_a_dataclass_of_anyios_is_one_when_it_is_used() -> None:
    program = """
from anyio import EventStatistics, LockStatistics, SemaphoreStatistics
from podlite.late_dataclasses import _Attribute
late = [isinstance(vars(each).get("__match_args__"), _Attribute)
        for each in (EventStatistics, LockStatistics, SemaphoreStatistics)]
import dataclasses
first, second = EventStatistics(1), EventStatistics(tasks_waiting=1)
assert first == second and hash(first) == hash(second) and first != EventStatistics(2)
try:
    first.tasks_waiting = 2
except dataclasses.FrozenInstanceError:
    print(late, repr(first))
try:
    EventStatistics()
except TypeError as error:
    print(error)
print([each.name for each in dataclasses.fields(LockStatistics)], LockStatistics.__match_args__)
class Derived(SemaphoreStatistics):
    pass
print(repr(Derived(3)), dataclasses.is_dataclass(Derived), SemaphoreStatistics(3) == SemaphoreStatistics(3))
# Everybody else's are what they are at once.
@dataclasses.dataclass
class Ours:
    value: int = dataclasses.field(default=3)
print(Ours.value, "__eq__" in vars(Ours))
"""
    assert run(program).splitlines() == [
        "[True, True, True] EventStatistics(tasks_waiting=1)",
        "EventStatistics.__init__() missing 1 required positional argument: 'tasks_waiting'",
        "['locked', 'owner', 'tasks_waiting'] ('locked', 'owner', 'tasks_waiting')",
        "Derived(tasks_waiting=3) True True",
        "3 True",
    ]


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


@pytest.mark.parametrize(("verb", "late"), [("ps", True), ("agent", False), ("cri", False), ("bench", False)])
def test_what_stays_imports_everything_as_usual(verb: str, late: bool) -> None:
    """A server, and what loads plotting libraries, would wait for its modules sooner or later."""
    program = f"""
import sys
from podlite import __main__
sys.argv = ["podlite", {verb!r}, "--help"]
try:
    __main__.main()
except SystemExit:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-v", "-c", program], capture_output=True, text=True, cwd=os.getcwd(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("import 'podlite.late_imports'" in done.stderr) is late
