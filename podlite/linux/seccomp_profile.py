"""What a seccomp profile says: the typed form that is compiled, and the JSON forms that people write.

Two kinds of JSON are read: `linux.seccomp` of the OCI runtime specification, and docker's, which adds
`archMap`, `includes` and `excludes`. Both may come from a pod's author, so every problem is one sentence that
names the place in the file.

Sources: opencontainers/runtime-spec config-linux.md, section Seccomp; moby/profiles seccomp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# include/uapi/linux/seccomp.h
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000  # the errno is added
TRACE = 0x7FF00000  # the message for the tracer is added
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

EPERM = 1
ENOSYS = 38

FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2

_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_OPERATORS = {
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_MASKED_EQ": "&==",
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    # A container's first process has one thread when it loads the filter.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    # Only changes how a listener is waited for, and there is none.
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0,
}
# The machines, and whose programs each can run beside its own.
_COMPATIBLE = {"x86_64": ("x86", "x32"), "aarch64": ("arm",)}
# SCMP_ARCH_... as in runc; what a machine cannot run has no effect on it.
_ARCHITECTURES = frozenset(
    (
        *("X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64", "LOONGARCH64", "S390", "S390X", "PPC", "PPC64"),
        *("PPC64LE", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
    )
)
# docker's `arches` use Go's and libseccomp's names of the native architecture.
_NATIVE_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_ARGUMENTS = 6


class SeccompError(Exception):
    """A seccomp profile cannot be used. `hint` says what could be done about it, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Condition(NamedTuple):
    """One comparison of the `argument` with this number (0-5) with `value`.

    `operator` is one of != < <= == >= > and &==, which holds if (argument & mask) == (value & mask). With
    `low_word` only the lower 32 bits count: right for an argument that the kernel takes as an int, where a
    comparison of all 64 would let a caller escape by setting an upper bit.
    """

    argument: int
    operator: str
    value: int
    mask: int = 0
    low_word: bool = False


class Rule(NamedTuple):
    """What happens to system calls of these names if all conditions hold."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


class Profile(NamedTuple):
    """A whole profile for one machine. `architectures` beside the native one are allowed to run, too."""

    default_action: int
    rules: tuple[Rule, ...]
    architectures: tuple[str, ...]
    flags: int = 0


class Situation(NamedTuple):
    """What docker's `includes` and `excludes` ask about."""

    machine: str  # x86_64 or aarch64, as uname(2) says
    capabilities: frozenset[str]  # the container's bounding set, as CAP_... names
    kernel: tuple[int, int]


def parse(document: Any, situation: Situation) -> Profile:
    """A profile from decoded JSON, for this situation. Pure.

    Raises SeccompError naming the field. Names of system calls are not checked: an unknown one is ignored when
    the profile is compiled, as every runtime does. Two comparisons of the same argument in one rule are
    alternatives, as in runc (libseccomp cannot combine them), and not conditions that must both hold.
    """
    profile = _dict(document, "the profile")
    default_action = _action(profile, "defaultAction", "defaultErrnoRet", "")
    rules: list[Rule] = []
    for number, entry in enumerate(_list(profile.get("syscalls"), "syscalls")):
        where = f"syscalls[{number}]"
        rule = _dict(entry, where)
        if _applies(rule, situation, where):
            rules.extend(_rules(rule, where))
    flags = 0
    for flag in _list(profile.get("flags"), "flags"):
        if flag not in _FLAGS:
            raise SeccompError(f"flags: {flag!r} is not a known seccomp flag")
        flags |= _FLAGS[flag]
    return Profile(default_action, tuple(rules), _architectures(profile, situation.machine), flags)


def _rules(rule: dict[str, Any], where: str) -> Iterator[Rule]:
    names = [str(name) for name in _list(rule.get("names"), f"{where}.names")]
    if rule.get("name"):
        if names:
            raise SeccompError(f"{where}: has both `name` and `names`; a rule has one of them")
        names = [str(rule["name"])]
    action = _action(rule, "action", "errnoRet", f"{where}.")
    conditions = [
        _condition(_dict(each, f"{where}.args[{number}]"), f"{where}.args[{number}]")
        for number, each in enumerate(_list(rule.get("args"), f"{where}.args"))
    ]
    if len({each.argument for each in conditions}) < len(conditions):
        for each in conditions:
            yield Rule(tuple(names), action, (each,))
    else:
        yield Rule(tuple(names), action, tuple(conditions))


def _action(fields: dict[str, Any], key: str, errno_key: str, prefix: str) -> int:
    name = fields.get(key)
    if name == "SCMP_ACT_NOTIFY":
        raise SeccompError(
            f"{prefix}{key}: SCMP_ACT_NOTIFY needs a seccomp agent, and podlite starts none",
            hint="use SCMP_ACT_ERRNO or SCMP_ACT_ALLOW instead",
        )
    if name not in _ACTIONS:
        raise SeccompError(f"{prefix}{key}: {name!r} is not a known seccomp action")
    action = _ACTIONS[name]
    if action in (ERRNO, TRACE):
        value = fields.get(errno_key)
        value = EPERM if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFFFF:
            raise SeccompError(f"{prefix}{errno_key}: {value!r} is not an error number")
        action |= value
    return action


def _condition(fields: dict[str, Any], where: str) -> Condition:
    numbers = {key: fields.get(key, 0) for key in ("index", "value", "valueTwo")}
    for key, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 64:
            raise SeccompError(f"{where}.{key}: {number!r} is not an unsigned 64-bit number")
    if numbers["index"] >= _ARGUMENTS:
        raise SeccompError(f"{where}.index: {numbers['index']} is too high, a system call has the arguments 0 to 5")
    if fields.get("op") not in _OPERATORS:
        raise SeccompError(f"{where}.op: {fields.get('op')!r} is not a known comparison")
    operator = _OPERATORS[fields["op"]]
    if operator == "&==":
        return Condition(numbers["index"], operator, numbers["valueTwo"], numbers["value"])
    return Condition(numbers["index"], operator, numbers["value"])


def _applies(rule: dict[str, Any], situation: Situation, where: str) -> bool:
    """docker's `includes` (all must hold) and `excludes` (none may)."""
    includes = _dict(rule.get("includes") or {}, f"{where}.includes")
    excludes = _dict(rule.get("excludes") or {}, f"{where}.excludes")
    native = {situation.machine, _NATIVE_NAMES.get(situation.machine, situation.machine)}
    arches = _list(includes.get("arches"), f"{where}.includes.arches")
    if arches and not native.intersection(arches):
        return False
    if not situation.capabilities.issuperset(_list(includes.get("caps"), f"{where}.includes.caps")):
        return False
    if includes.get("minKernel") and situation.kernel < _kernel(includes["minKernel"], f"{where}.includes.minKernel"):
        return False
    if native.intersection(_list(excludes.get("arches"), f"{where}.excludes.arches")):
        return False
    if situation.capabilities.intersection(_list(excludes.get("caps"), f"{where}.excludes.caps")):
        return False
    minimum = excludes.get("minKernel")
    return not minimum or situation.kernel < _kernel(minimum, f"{where}.excludes.minKernel")


def _kernel(text: Any, where: str) -> tuple[int, int]:
    major, _, minor = str(text).partition(".")
    if not major.isdigit() or not minor.isdigit():
        raise SeccompError(f"{where}: {text!r} is not a kernel version such as 4.8")
    return int(major), int(minor)


def _architectures(profile: dict[str, Any], machine: str) -> tuple[str, ...]:
    named = _list(profile.get("architectures"), "architectures")
    mapped = _list(profile.get("archMap"), "archMap")
    if named and mapped:
        raise SeccompError("the profile has both `architectures` and `archMap`; it may have one of them")
    result = [machine]
    for each in mapped:
        entry = _dict(each, "archMap")
        if _architecture(entry.get("architecture"), "archMap") == machine:
            named = _list(entry.get("subArchitectures"), "archMap.subArchitectures")
    for name in named:
        architecture = _architecture(name, "architectures")
        if architecture in _COMPATIBLE.get(machine, ()) and architecture not in result:
            result.append(architecture)
    return tuple(result)


def _architecture(name: Any, where: str) -> str:
    plain = str(name).removeprefix("SCMP_ARCH_")
    if plain not in _ARCHITECTURES:
        raise SeccompError(f"{where}: {name!r} is not a known architecture")
    return plain.lower()


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SeccompError(f"{where}: must be an object, not {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise SeccompError(f"{where}: must be a list, not {type(value).__name__}")
    return value
