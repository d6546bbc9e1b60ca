"""The compiler, against a plain reading of what profiles mean, and against libseccomp where that is installed."""

from __future__ import annotations

import struct

import pytest
from classic_bpf import libseccomp, run
from hypothesis import given, settings
from hypothesis import strategies as st

from podlite.linux.seccomp_bpf import TOKENS, X32_BIT, compile_profile
from podlite.linux.seccomp_profile import (
    ALLOW,
    ENOSYS,
    ERRNO,
    KILL_THREAD,
    LOG,
    TRAP,
    Condition,
    Profile,
    Rule,
    SeccompError,
)
from podlite.linux.seccomp_tables import numbers

EPERM = ERRNO | 1
X86_64, X86, AARCH64, ARM = TOKENS["x86_64"], TOKENS["x86"], TOKENS["aarch64"], TOKENS["arm"]


def _holds(condition: Condition, arguments: tuple[int, ...], wide: bool) -> bool:
    limit = (1 << 64) - 1 if wide and not condition.low_word else (1 << 32) - 1
    argument, value, mask = arguments[condition.argument] & limit, condition.value & limit, condition.mask & limit
    return {
        "==": argument == value,
        "!=": argument != value,
        "<": argument < value,
        "<=": argument <= value,
        ">": argument > value,
        ">=": argument >= value,
        "&==": argument & mask == value & mask,
    }[condition.operator]


def _meaning(profile: Profile, architecture: str, number: int, arguments: tuple[int, ...]) -> int:
    """What the profile says of a call that is not multiplexed."""
    table = numbers(architecture)
    rules = [
        rule
        for rule in profile.rules
        for name in rule.names
        if table.get(name) == number and rule.action != profile.default_action
    ]
    wide = architecture not in ("x86", "arm")
    for rule in rules:
        significant = [each.mask if wide and not each.low_word else each.mask & 0xFFFFFFFF for each in rule.conditions]
        if all(each.operator == "&==" and mask == 0 for each, mask in zip(rule.conditions, significant, strict=True)):
            return rule.action
    for rule in rules:
        if all(_holds(each, arguments, wide) for each in rule.conditions):
            return rule.action
    mentioned = [table[name] for rule in profile.rules for name in rule.names if name in table]
    if profile.default_action not in (ALLOW, LOG) and mentioned and number > max(mentioned):
        return ERRNO | ENOSYS
    return profile.default_action


_NAMES = ("read", "write", "openat", "clone", "socket", "personality", "mount", "ioctl", "cachestat", "no_such_call")
_VALUES = st.sampled_from((0, 1, 38, 39, 40, 41, 0x7E020000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 40, (1 << 64) - 1))
_CONDITIONS = st.builds(
    Condition,
    st.integers(0, 5),
    st.sampled_from(("==", "!=", "<", "<=", ">", ">=", "&==")),
    _VALUES,
    _VALUES,
    st.booleans(),
)
_ACTIONS = st.sampled_from((ALLOW, EPERM, LOG, TRAP, KILL_THREAD, ERRNO | ENOSYS))
_RULES = st.builds(
    Rule,
    st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4).map(tuple),
    _ACTIONS,
    st.lists(_CONDITIONS, max_size=3).map(tuple),
)
_PROFILES = st.builds(Profile, _ACTIONS, st.lists(_RULES, max_size=8).map(tuple), st.just(("x86_64",)), st.just(0))


@settings(max_examples=300, deadline=None)
@given(_PROFILES, st.sampled_from(("x86_64", "aarch64")), st.lists(st.tuples(*[_VALUES] * 6), min_size=1, max_size=5))
def test_program_does_what_the_profile_says(profile: Profile, architecture: str, calls: list[tuple[int, ...]]) -> None:
    profile = profile._replace(architectures=(architecture,))
    program = compile_profile(profile)
    table = numbers(architecture)
    tried = {table[name] for name in _NAMES if name in table} | {0, 100, 335, 452, 500, 0x3FFFFFFF}
    for number in tried:
        for arguments in calls:
            expected = _meaning(profile, architecture, number, arguments)
            assert run(program, TOKENS[architecture], number, arguments) == expected, (number, arguments)


# One rule for each call: with more, libseccomp 2.5 loses some (`a == 0 and b == 0` beside `b != 0`, for example).
_ONE_RULE_EACH = st.dictionaries(
    st.sampled_from(_NAMES),
    st.lists(_CONDITIONS, max_size=3, unique_by=lambda each: each.argument),
    min_size=1,
).map(
    lambda each: tuple(
        Rule((name,), ALLOW, tuple(condition._replace(low_word=False) for condition in conditions))
        for name, conditions in each.items()
    )
)


@settings(max_examples=150, deadline=None)
@given(_ONE_RULE_EACH, st.lists(st.tuples(*[_VALUES] * 6), min_size=1, max_size=4))
def test_libseccomp_decides_alike(rules: tuple[Rule, ...], calls: list[tuple[int, ...]]) -> None:
    """For every call that the profile mentions: what it does not know gets ENOSYS from us, as runc arranges it."""
    library = libseccomp()
    if library is None or struct.calcsize("P") != 8 or library.library.seccomp_arch_native() & 0xFFFFFFFF != X86_64:
        pytest.skip("libseccomp.so.2 on x86_64 is needed")
    profile = Profile(EPERM, rules, ("x86_64", "x86", "x32"))
    ours, theirs = compile_profile(profile), library.compile(profile)
    for architecture, token, bit in (("x86_64", X86_64, 0), ("x86", X86, 0), ("x32", X86_64, X32_BIT)):
        table = numbers(architecture)
        for name in {name for rule in rules for name in rule.names} - {"cachestat"}:
            if name not in table:
                continue
            for arguments in calls:
                call = (
                    token,
                    table[name] | bit,
                    tuple(each & 0xFFFFFFFF for each in arguments) if token == X86 else arguments,
                )
                assert run(ours, *call) == run(theirs, *call), (architecture, name, arguments)


def test_an_unconditional_rule_decides() -> None:
    conditional = Rule(("socket",), EPERM, (Condition(0, "==", 40),))
    profile = Profile(KILL_THREAD, (conditional, Rule(("socket",), ALLOW)), ("x86_64",))
    assert run(compile_profile(profile), X86_64, numbers("x86_64")["socket"], (40,)) == ALLOW


def test_of_two_unconditional_rules_the_first() -> None:
    profile = Profile(KILL_THREAD, (Rule(("read",), ALLOW), Rule(("read",), EPERM)), ("x86_64",))
    assert run(compile_profile(profile), X86_64, numbers("x86_64")["read"]) == ALLOW


def test_foreign_architectures_are_killed() -> None:
    native = compile_profile(Profile(ALLOW, (), ("x86_64",)))
    assert run(native, X86_64, 0) == ALLOW
    assert run(native, X86, 4) == KILL_THREAD
    assert run(native, X86_64, X32_BIT | 1) == KILL_THREAD
    assert run(native, AARCH64, 64) == KILL_THREAD


def test_each_architecture_has_its_own_numbers() -> None:
    profile = Profile(EPERM, (Rule(("write", "removexattrat"), ALLOW),), ("x86_64", "x86", "x32"))
    program = compile_profile(profile)
    assert run(program, X86_64, 1) == ALLOW
    assert run(program, X86, 4) == ALLOW
    assert run(program, X86, 1) == EPERM  # exit
    assert run(program, X86_64, X32_BIT | 1) == ALLOW
    assert run(program, X86_64, X32_BIT | 4) == EPERM
    assert run(program, X86_64, X32_BIT | 467) == ERRNO | ENOSYS
    assert run(program, ARM, 4) == KILL_THREAD
    arm = compile_profile(profile._replace(architectures=("aarch64", "arm")))
    assert run(arm, AARCH64, 64) == ALLOW
    assert run(arm, ARM, 4) == ALLOW
    assert run(arm, AARCH64, 4) == EPERM


def test_calls_newer_than_the_profile_do_not_exist() -> None:
    # runc, libcontainer/seccomp/patchbpf: -ENOSYS above the highest number that the profile mentions.
    program = compile_profile(Profile(EPERM, (Rule(("read", "clone3"), ALLOW),), ("x86_64",)))
    assert run(program, X86_64, 434) == EPERM
    assert run(program, X86_64, 436) == ERRNO | ENOSYS
    assert run(program, X86_64, 0x3FFFFFFF) == ERRNO | ENOSYS


def test_a_permissive_default_stays() -> None:
    program = compile_profile(Profile(ALLOW, (Rule(("read",), EPERM),), ("x86_64",)))
    assert run(program, X86_64, 500) == ALLOW


def test_arm_keeps_its_private_calls_apart() -> None:
    program = compile_profile(Profile(EPERM, (Rule(("read", "set_tls"), ALLOW),), ("aarch64", "arm")))
    assert run(program, ARM, 0x0F0005) == ALLOW
    assert run(program, ARM, 0x0F0001) == EPERM
    assert run(program, ARM, 400) == ERRNO | ENOSYS


def test_rules_for_sockets_hold_for_socketcall() -> None:
    program = compile_profile(Profile(ALLOW, (Rule(("socket", "shmget"), EPERM),), ("x86_64", "x86")))
    table = numbers("x86")
    assert run(program, X86, table["socket"]) == EPERM
    assert run(program, X86, table["socketcall"], (1,)) == EPERM
    assert run(program, X86, table["socketcall"], (2,)) == ALLOW
    assert run(program, X86, table["ipc"], (23,)) == EPERM
    # ipc(2): "the version is encoded in the upper 16 bits of call"
    assert run(program, X86, table["ipc"], (1 << 16 | 23,)) == EPERM
    assert run(program, X86, table["ipc"], (21,)) == ALLOW


def test_far_jumps() -> None:
    """A rule with so many alternatives that what follows is out of reach of a conditional jump."""
    conditions = [Rule(("read",), ALLOW, (Condition(0, "==", value << 33),)) for value in range(400)]
    others = tuple(Rule((name,), LOG) for name in ("write", "close", "mmap", "futex"))
    program = compile_profile(Profile(EPERM, (*conditions, *others), ("x86_64", "x86")))
    table = numbers("x86_64")
    assert run(program, X86_64, table["read"], (399 << 33,)) == ALLOW
    assert run(program, X86_64, table["read"], (400 << 33,)) == EPERM
    assert run(program, X86_64, table["write"]) == LOG
    assert run(program, X86, numbers("x86")["futex"]) == LOG


def test_a_profile_can_be_too_large() -> None:
    rules = tuple(Rule(("read",), ALLOW, (Condition(0, "==", value << 33),)) for value in range(2000))
    with pytest.raises(SeccompError, match="4096"):
        compile_profile(Profile(EPERM, rules, ("x86_64",)))


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(SeccompError, match="riscv64"):
        compile_profile(Profile(EPERM, (), ("riscv64",)))
