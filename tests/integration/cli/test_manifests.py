"""Every manifest in manifests/ is run as its comment says, and does what it says there."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cli import Podlite

pytestmark = [pytest.mark.root]

MANIFESTS = Path(__file__).parents[3] / "manifests"


class Outcome(NamedTuple):
    """What is expected: the exit status, and patterns that lines match, of the output and of what podlite says."""

    out: list[str] = []
    err: list[str] = []
    status: int = 0
    # It never ends by itself: instead of after the time in the comment it is ended when it has done all that it should.
    endless: bool = False

    def missing(self, out: str, err: str) -> list[str]:
        """The patterns that no line matches yet."""
        wanted = [(pattern, out) for pattern in self.out] + [(pattern, err) for pattern in self.err]
        return [pattern for pattern, text in wanted if not re.search(f"^{pattern}$", text, re.MULTILINE)]


OUTCOMES = {
    "hello.yaml": Outcome(["hello from hello, as root"], ["podlite: default/hello is Succeeded"]),
    "init-and-app.yaml": Outcome(["prepared", "serving what prepare left: prepared"]),
    "two-containers.yaml": Outcome(["hello from two-containers"]),
    "sidecar.yaml": Outcome(
        ["line one", "line two", "line three", "shipped everything"],
        ["podlite: sidecar/shipper ended: Completed, exit code 0"],
    ),
    "probes.yaml": Outcome(
        ["not healthy any more", "second instance, done"],
        [
            "podlite: probes/web Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 404",
            r"podlite: probes/web started again \(restart 1\)",
        ],
    ),
    "volumes.yaml": Outcome(
        [
            "on disk",
            "/memory is in memory",
            "read a file of the host",
            "and cannot write to it",
            "mine",
            'app="demo"',
        ]
    ),
    "persistent-volume.yaml": Outcome([r"run number \d+"]),
    "configmap-and-secret.yaml": Outcome(["hello, world", "colour = blue", "400 /secret/password", "11"]),
    "job.yaml": Outcome([r"3\.1365926848388166"], ["podlite: warning: .*spec.backoffLimit has no effect here.*"]),
    "deployment.yaml": Outcome([], ["podlite: deploy-web-0/web started"], endless=True),
    "statefulset.yaml": Outcome([r"db-0 is db-0\.databases\.default\.svc\..*"], endless=True),
    "daemonset.yaml": Outcome(
        [rf"\d+ processes on {os.uname().nodename.lower()}, which runs Linux {re.escape(os.uname().release)}"],
        endless=True,
    ),
    "host-network.yaml": Outcome([f"this is {os.uname().nodename}, and its devices are:", "lo"]),
    "host-port.yaml": Outcome(["welcome"]),
    "shared-processes.yaml": Outcome(
        ["pid 1 is podlite: pause and not this program, which has pid True", "found the worker", "told to end"]
    ),
    "resources.yaml": Outcome(
        ["taking 500 MiB"],
        [
            "podlite: resources/greedy ended: OOMKilled, exit code 137",
            "podlite: container greedy of pod default/resources was killed, for it used more memory than its limit .*",
        ],
        status=137,
    ),
    "restart.yaml": Outcome(
        ["works now"],
        ["does not work yet", r"podlite: restart/flaky started again \(restart 1\)"],
    ),
    "graceful-shutdown.yaml": Outcome(
        ["serving", "got SIGTERM, hook said: draining"],
        ["podlite: pod default/graceful-shutdown is Failed: DeadlineExceeded: .*"],
        status=1,
    ),
    "security.yaml": Outcome(
        [
            "user 1000, groups 1000 2000",
            r"CapEff:\s0000000000000000",
            r"NoNewPrivs:\s1",
            r"Seccomp:\s2",
            "the root file system is read-only",
            "the volume belongs to group 2000",
        ]
    ),
    "users.yaml": Outcome(
        [
            r"I am root, and on the machine that is user [1-9]\d{4,}",
            "the file belongs to root",
            "my network is mine",
            "and the kernel is not",
        ]
    ),
}


def test_every_manifest_has_an_expected_outcome() -> None:
    assert {each.name for each in MANIFESTS.iterdir()} == set(OUTCOMES)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_it_is_described(name: str) -> None:
    """It begins with a comment that says what it shows, and how it is run."""
    words = how_to_run(name)
    assert words[-1] == f"manifests/{name}"


def how_to_run(name: str) -> list[str]:
    """The words after `podlite run` in the manifest's comment."""
    text = (MANIFESTS / name).read_text()
    assert text.startswith("# ")
    found = re.search(r"^#     podlite run (.*)$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_it_does_what_it_says(podlite: Podlite, name: str) -> None:
    outcome = OUTCOMES[name]
    words = how_to_run(name)
    if outcome.endless:
        words[words.index("--timeout") + 1] = "1000"
        command = podlite.start("run", *words)
        command.until(lambda: not outcome.missing(command.out, command.err), "all that is expected")
        command.signal(signal.SIGINT)
        command.signal(signal.SIGINT)
        done = command.wait()
        assert done.status == 130, done
    else:
        done = podlite("run", *words)
        assert done.status == outcome.status, done
    assert not outcome.missing(done.out, done.err), done
    podlite("volume", "rm", "--unused")  # claims outlive pods


def test_several_at_once(podlite: Podlite) -> None:
    names = ["hello.yaml", "init-and-app.yaml", "two-containers.yaml"]
    done = podlite("run", "--prefix", "always", *(f"manifests/{name}" for name in names))
    assert done.status == 0, done
    assert "hello/greeter hello from hello, as root\n" in done.out
    assert "init-and-app/app serving what prepare left: prepared\n" in done.out
    assert "two-containers/client hello from two-containers\n" in done.out
