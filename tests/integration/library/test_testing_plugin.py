"""The pytest fixtures, as somebody else's test suite would use them: plain, under pytest-asyncio, under anyio."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.root]

SYNC = """
import os

def test_netns(podlite_netns):
    assert os.path.exists(podlite_netns.path)
    assert "LOOPBACK,UP" in podlite_netns.run(["ip", "link", "show", "lo"]).stdout
    assert podlite_netns.run(["readlink", "/proc/self/ns/net"]).stdout.strip() != os.readlink("/proc/self/ns/net")

def test_sandbox(podlite_sandbox):
    assert podlite_sandbox.run_sync(["/bin/hostname"]).stdout == b"test\\n"
"""

BODY = """
async def test_process(podlite_sandbox):
    result = await podlite_sandbox.run(["/bin/sh", "-c", "hostname; exit 4"])
    assert (result.code, result.stdout) == (4, b"test\\n")

async def test_another_sandbox(podlite_sandbox, podlite_netns):
    assert podlite_netns.path == podlite_sandbox.network.path
    assert (await podlite_sandbox.run(["/bin/true"])).code == 0
"""


@pytest.mark.parametrize(
    ("text", "options", "passed"),
    [
        (SYNC, [], 2),
        ("import pytest\npytestmark = pytest.mark.asyncio\n" + BODY, ["-p", "no:anyio"], 2),
        (BODY, ["-p", "no:anyio", "-o", "asyncio_mode=auto"], 2),
        (
            "import pytest\npytestmark = pytest.mark.anyio\n"
            "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n" + BODY,
            ["-p", "no:asyncio"],
            2,
        ),
    ],
    ids=["plain", "pytest-asyncio strict", "pytest-asyncio auto", "anyio"],
)
def test_under(pytester: pytest.Pytester, text: str, options: list[str], passed: int) -> None:
    pytester.makepyfile(text)
    result = pytester.runpytest_subprocess(
        "-o", "asyncio_default_fixture_loop_scope=function" if "no:asyncio" not in options else "addopts=", *options
    )
    result.assert_outcomes(passed=passed)
