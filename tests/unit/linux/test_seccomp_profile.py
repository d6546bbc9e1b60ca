from __future__ import annotations

from typing import Any

import pytest

from podlite.linux.seccomp_profile import (
    ALLOW,
    ERRNO,
    FLAG_LOG,
    FLAG_SPEC_ALLOW,
    KILL_THREAD,
    LOG,
    TRACE,
    Condition,
    Profile,
    Rule,
    SeccompError,
    Situation,
    parse,
)

HERE = Situation("x86_64", frozenset(("CAP_CHOWN", "CAP_SYS_ADMIN")), (6, 1))


def profile(*syscalls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(syscalls), **fields}


def test_oci_form() -> None:
    # opencontainers/runtime-spec, config-linux.md, "Seccomp"
    document = profile(
        {"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {"names": ["ptrace"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
        {"names": ["acct"], "action": "SCMP_ACT_KILL", "args": []},
        architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
    )
    assert parse(document, HERE) == Profile(
        ERRNO | 1,
        (
            Rule(("getcwd", "chmod"), ALLOW),
            Rule(("clone",), ALLOW, (Condition(0, "&==", 0, 2114060288),)),
            Rule(("ptrace",), TRACE | 7),
            Rule(("acct",), KILL_THREAD),
        ),
        ("x86_64", "x86", "x32"),
        FLAG_LOG | FLAG_SPEC_ALLOW,
    )


def test_errno_of_the_default() -> None:
    assert parse(profile(defaultErrnoRet=38), HERE).default_action == ERRNO | 38
    assert parse(profile(defaultErrnoRet=0), HERE).default_action == ERRNO
    assert parse({"defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 38}, HERE).default_action == LOG


def test_two_comparisons_of_one_argument_are_alternatives() -> None:
    # As runc does, libcontainer/seccomp: "each condition attached to a separate rule".
    args = [{"index": 0, "value": number, "op": "SCMP_CMP_EQ"} for number in (1, 2)]
    document = profile({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args})
    assert parse(document, HERE).rules == (
        Rule(("socket",), ALLOW, (Condition(0, "==", 1),)),
        Rule(("socket",), ALLOW, (Condition(0, "==", 2),)),
    )


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_BOOT"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_BOOT"]}}, True),
        ({"excludes": {"caps": ["CAP_SYS_BOOT", "CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["s390"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"includes": {}, "excludes": None}, True),
    ],
)
def test_docker_conditions(conditions: dict[str, Any], applies: bool) -> None:
    document = profile({"name": "mount", "action": "SCMP_ACT_ALLOW", **conditions})
    assert parse(document, HERE).rules == ((Rule(("mount",), ALLOW),) if applies else ())


def test_docker_architectures() -> None:
    mapping = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    assert parse(profile(archMap=mapping), HERE).architectures == ("x86_64", "x86", "x32")
    assert parse(profile(archMap=mapping), HERE._replace(machine="aarch64")).architectures == ("aarch64", "arm")
    assert parse(profile(), HERE).architectures == ("x86_64",)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "the profile: must be an object, not list"),
        ({}, "defaultAction: None is not a known seccomp action"),
        (profile({"names": ["a"], "action": "ALLOW"}), r"syscalls\[0\].action: 'ALLOW' is not a known"),
        (profile({"names": ["a"], "action": "SCMP_ACT_NOTIFY"}), r"syscalls\[0\].action: SCMP_ACT_NOTIFY needs"),
        (profile({"names": "a", "action": "SCMP_ACT_ALLOW"}), r"syscalls\[0\].names: must be a list"),
        (profile({"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}), r"both `name` and `names`"),
        (profile({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1}), r"errnoRet: -1 is not an error number"),
        (
            profile({"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}),
            r"args\[0\].index: 6 is too high",
        ),
        (
            profile({"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "=="}]}),
            r"args\[0\].op: '==' is not a known comparison",
        ),
        (
            profile({"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": -1}]}),
            r"args\[0\].value: -1 is not an unsigned 64-bit number",
        ),
        (profile(architectures=["SCMP_ARCH_VAX"]), "architectures: 'SCMP_ARCH_VAX' is not a known architecture"),
        (profile(architectures=["SCMP_ARCH_X86"], archMap=[{}]), "both `architectures` and `archMap`"),
        (profile(flags=["SECCOMP_FILTER_FLAG_NEW"]), "flags: 'SECCOMP_FILTER_FLAG_NEW' is not a known seccomp flag"),
        (profile({"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}), "kernel version"),
    ],
)
def test_problems_name_the_place(document: Any, said: str) -> None:
    with pytest.raises(SeccompError, match=said):
        parse(document, HERE)
