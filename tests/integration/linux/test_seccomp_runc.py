"""Our filters beside those that runc makes of the same profiles with libseccomp: what do some seventy calls meet?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from linux_children import in_child
from seccomp_probe import CASES

from podlite.linux import capabilities
from podlite.linux.seccomp_bpf import compile_profile
from podlite.linux.seccomp_default import default_profile
from podlite.linux.seccomp_load import load_filter
from podlite.linux.seccomp_profile import ALLOW, ERRNO, Profile, Situation, parse
from podlite.linux.seccomp_tables import numbers
from podlite.linux.syscalls import PR_SET_NO_NEW_PRIVS, prctl

RUNC = shutil.which("runc")
PYTHON = "/usr/bin/python3"
# Debian's and Fedora's golang-github-containers-common
PODMAN_PROFILE = "/usr/share/containers/seccomp.json"
MACHINE = os.uname().machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(RUNC is None or not os.path.exists(PYTHON), reason="needs runc and /usr/bin/python3"),
    pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="there is no table of system calls"),
]

_OPERATORS = {"!=": "NE", "<": "LT", "<=": "LE", "==": "EQ", ">=": "GE", ">": "GT", "&==": "MASKED_EQ"}
_SETS = {
    "default": capabilities.DEFAULT,
    "SYS_ADMIN": capabilities.DEFAULT | capabilities.bit("SYS_ADMIN"),
    "none": 0,
    "all": (1 << 41) - 1,
}


def _oci(profile: Profile) -> dict[str, Any]:
    """A profile in the form of the OCI runtime specification."""

    def action(value: int) -> dict[str, Any]:
        if value == ALLOW:
            return {"action": "SCMP_ACT_ALLOW"}
        assert value & 0xFFFF0000 == ERRNO
        return {"action": "SCMP_ACT_ERRNO", "errnoRet": value & 0xFFFF}

    default = action(profile.default_action)
    return {
        "defaultAction": default["action"],
        "defaultErrnoRet": default["errnoRet"],
        "architectures": [f"SCMP_ARCH_{name.upper()}" for name in profile.architectures],
        "syscalls": [
            {
                "names": list(rule.names),
                "args": [
                    {
                        "index": each.argument,
                        "op": f"SCMP_CMP_{_OPERATORS[each.operator]}",
                        "value": each.mask if each.operator == "&==" else each.value,
                        "valueTwo": each.value if each.operator == "&==" else 0,
                    }
                    for each in rule.conditions
                ],
                **action(rule.action),
            }
            for rule in profile.rules
        ],
    }


def _bundle(directory: Path, profile: Profile) -> None:
    rootfs = directory / "rootfs"
    names = [name for name in ("usr", "bin", "sbin", "lib", "lib64", "lib32", "etc", "proc", "test") if name]
    for name in names:
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    binds = [
        {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
        for name in names
        if name not in ("proc", "test") and os.path.isdir(f"/{name}")
    ]
    every = [f"CAP_{name}" for name in capabilities.names(capabilities.held())]
    configuration = {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs)},
        "process": {
            "args": [PYTHON, "-I", "/test/seccomp_probe.py", json.dumps(_numbers())],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), every),
        },
        "mounts": [
            *binds,
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/test", "type": "bind", "source": os.path.dirname(__file__), "options": ["bind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "cgroupsPath": f"/podlite-test-{os.getpid()}",
            "seccomp": _oci(profile),
        },
    }
    (directory / "config.json").write_text(json.dumps(configuration))


def _numbers() -> dict[str, int]:
    table = numbers(MACHINE)
    return {name: table[name] for name, _ in CASES if name in table}


def by_runc(tmp_path: Path, profile: Profile) -> list[Any]:
    _bundle(tmp_path, profile)
    done = subprocess.run(
        [str(RUNC), "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), f"podlite-test-{os.getpid()}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def by_us(profile: Profile) -> list[Any]:
    program = compile_profile(profile)
    probe = os.path.join(os.path.dirname(__file__), "seccomp_probe.py")

    def run() -> str:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(program)
        command = [PYTHON, "-I", probe, json.dumps(_numbers())]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return list(json.loads(in_child(run)))


def difference(ours: list[Any], theirs: list[Any]) -> list[Any]:
    assert len(ours) == len(theirs) > 60
    # Neither is a filter that lets everything through or nothing.
    assert {1, 9, 14, 22} <= {answer for _, _, answer in theirs}
    return [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine != other]


# Debian 12's libseccomp (2.5.4) ends with Linux 5.17: what is newer is absent for runc, allowed by us, and not probed.
@pytest.mark.parametrize("bounding", _SETS)
def test_the_default_profile(tmp_path: Path, bounding: str) -> None:
    names = frozenset(capabilities.names(_SETS[bounding]))
    profile = default_profile(MACHINE, names, (6, 1))
    assert difference(by_us(profile), by_runc(tmp_path, profile)) == []


@pytest.mark.parametrize("bounding", ["default", "all"])
@pytest.mark.skipif(not os.path.exists(PODMAN_PROFILE), reason=f"{PODMAN_PROFILE} is not installed")
def test_podmans_profile(tmp_path: Path, bounding: str) -> None:
    with open(PODMAN_PROFILE) as file:
        document = json.load(file)
    names = frozenset(f"CAP_{name}" for name in capabilities.names(_SETS[bounding]))
    profile = parse(document, Situation(MACHINE, names, (6, 1)))
    assert difference(by_us(profile), by_runc(tmp_path, profile)) == []
