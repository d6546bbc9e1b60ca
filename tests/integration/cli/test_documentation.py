"""The examples of README and docs/ are run, and do what the text says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Podlite

pytestmark = [pytest.mark.root]

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]


def blocks(page: str, language: str) -> list[str]:
    """The code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_thing_that_one_sees(podlite: Podlite) -> None:
    """The session at the top of the README, on a terminal, line by line; only the pod's addresses may differ."""
    session, *_ = blocks("README.md", "console")
    for part in session.split("# podlite ")[1:]:
        words, _, expected = part.partition("\n")
        with podlite.terminal(*words.split(), env={"NO_COLOR": "1"}, columns=200) as terminal:
            assert terminal.wait() == 0
        shown = "".join(f"{line.rstrip()}\n" for line in terminal.seen.splitlines())
        assert re.sub(r"10\.85\.\d+\.\d+|fd85::[0-9a-f:]+|@if\d+", "*", shown) == re.sub(
            r"10\.85\.\d+\.\d+|fd85::[0-9a-f:]+|@if\d+", "*", expected
        )


@pytest.mark.parametrize(
    ("page", "index", "shows"),
    [
        ("README.md", 0, "demo\nlo "),
        ("docs/library.md", 0, "demo\nhello\n"),
        ("docs/library.md", 1, "Succeeded ContainerStateTerminated(exit_code=0"),
    ],
)
def test_a_program(podlite: Podlite, page: str, index: int, shows: str) -> None:
    """As it stands there, but for directories of the test's own."""
    layout = f"__import__('podlite.runtime.layout').runtime.layout.{podlite.layout!r}"
    text = blocks(page, "python")[index]
    changed = text.replace("open_runtime()", f"open_runtime({layout})").replace(
        "NodeOptions()", f"NodeOptions(layout={layout})"
    )
    assert changed != text
    done = subprocess.run(
        [*podlite.argv()[:3], sys.executable, "-c", changed],
        env=podlite.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shows in done.stdout


def test_a_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(blocks("docs/library.md", "python")[2])
    pytester.runpytest_subprocess("-o", "asyncio_default_fixture_loop_scope=function").assert_outcomes(passed=2)


def test_faults(podlite: Podlite) -> None:
    """The faults of docs/debugging.md: a step that fails is told, and a kill leaves what prune takes away."""
    [commands] = blocks("docs/debugging.md", "sh")
    found = re.findall(r"^PODLITE_FAULTS='(.*?)' podlite run (\S+)", commands, re.MULTILINE)
    assert [fault for fault, _ in found] == ["netns.create=1*error(ENOSPC)", "container.start=kill"]
    failed = podlite("run", found[0][1], env={"PODLITE_FAULTS": found[0][0]})
    assert failed.status == 125, failed
    assert "No space left on device" in failed.err
    killed = podlite("run", found[1][1], env={"PODLITE_FAULTS": found[1][0]})
    assert killed.status == -9, killed
    assert "removed pod default/hello, whose podlite was killed" in podlite("prune").out
