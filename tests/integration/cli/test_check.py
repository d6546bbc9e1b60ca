"""`podlite check`, and what commands say to somebody who is not root."""

from __future__ import annotations

import subprocess

import pytest

from podlite.api.fields import rows
from podlite.linux.capabilities import ESSENTIAL
from tests.support.cli import Podlite, pod

pytestmark = [pytest.mark.root]


def test_this_machine(podlite: Podlite) -> None:
    done = podlite("check")
    assert done.status == 0, done
    lines = done.out.splitlines()
    found = {line.split()[0] for line in lines if line and not line.startswith("podlite")}
    assert found <= {"ok", "degraded", "missing"}
    for name in ("network namespaces", "overlayfs", "cgroup memory", "seccomp", "nftables", "IPv4 forwarding"):
        assert any(name in line for line in lines), name
    assert lines[-1].startswith("podlite run works here")
    as_json = podlite("check", "-o", "json").json
    assert as_json["canRun"] is True
    assert {each["state"] for each in as_json["facts"]} <= {"ok", "degraded", "missing"}
    assert all(each["consequence"] for each in as_json["facts"] if each["state"] != "ok"), "each has a consequence"


def test_fields(podlite: Podlite) -> None:
    lines = podlite("check", "--fields").out.splitlines()
    assert lines[0].split() == ["FIELD", "STATUS", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == [each.path for each in rows()]
    assert {line.split()[1] for line in lines[1:]} <= {"implemented", "accepted", "refused"}
    as_json = podlite("check", "--fields", "-o", "json").json
    assert all(each["reason"] for each in as_json if each["status"] != "implemented")


def without(podlite: Podlite, *words: str, drop: str = "") -> subprocess.CompletedProcess[str]:
    """A command without a capability, or as somebody else than root."""
    way = ["--bounding-set", f"-{drop}", "--inh-caps", f"-{drop}"] if drop else []
    way = way or ["--reuid=65534", "--regid=65534", "--clear-groups"]
    command = podlite.argv(*words)
    # nsenter needs root itself: first into the namespace, then less of everything.
    command = [*command[:3], "setpriv", *way, "--", *command[3:]]
    return subprocess.run(command, env=podlite.environment(), capture_output=True, text=True, check=False)


def test_somebody_else_than_root(podlite: Podlite) -> None:
    done = without(podlite, "check")
    assert done.returncode == 1, done
    assert "missing" in done.stdout
    assert "podlite run cannot work here: see what is missing above." in done.stdout
    ran = without(podlite, "run", "manifests/hello.yaml")
    assert ran.returncode == 125, ran
    assert "run podlite as root" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("capability", [name.lower() for name in ESSENTIAL])
def test_a_capability_that_is_needed(podlite: Podlite, capability: str) -> None:
    """A clear error, with nothing left (which the fixture holds), and the check names it."""
    path = podlite.manifest(pod("true"))
    done = without(podlite, "run", path, drop=capability)
    assert done.returncode == 125, done
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("podlite: ")
    assert f"CAP_{capability.upper()} not held" in done.stderr
    assert "hint: run podlite as root" in done.stderr
    checked = without(podlite, "check", drop=capability)
    assert checked.returncode == 1, checked
    assert capability.upper() in checked.stdout


@pytest.mark.parametrize(
    ("capability", "consequence"),
    [
        ("sys_resource", "oom_score_adj cannot be lowered"),
        ("net_raw", "containers have no raw sockets"),
        ("audit_write", "containers do not get these of the default capabilities"),
    ],
)
def test_a_capability_that_one_can_do_without(podlite: Podlite, capability: str, consequence: str) -> None:
    done = without(podlite, "run", "--quiet", podlite.manifest(pod("echo ran")), drop=capability)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done
    checked = without(podlite, "check", drop=capability)
    assert checked.returncode == 0
    assert consequence in checked.stdout


def test_help_and_version(podlite: Podlite) -> None:
    from podlite.version import __version__

    assert podlite("--version").out == f"podlite {__version__}\n"
    shown = podlite("--help")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith("usage: podlite COMMAND")
    assert podlite("rnu").status == 2
