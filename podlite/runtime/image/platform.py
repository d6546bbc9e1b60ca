"""Which of an index's manifests is for this machine.

Platforms are in Go's terms, normalised as containerd does (github.com/containerd/platforms). Unlike it, amd64 levels
(v2, v3, v4) are chosen by what the processor can do, the highest first.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from podlite.errors import UsageError

# uname -m → (architecture, variant)
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
}

# x86-64 psABI, "Micro-architecture levels", in the words of /proc/cpuinfo (abm stands for lzcnt)
_LEVELS = (
    ("v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"),
    ("v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    ("v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
)


class Platform(NamedTuple):
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def normalise_platform(os_name: str, architecture: str, variant: str = "") -> Platform:
    """One spelling for each platform: `x86_64` is amd64, `aarch64` arm64, and arm's default variant is v7."""
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in ("x86_64", "x86-64"):
        architecture = "amd64"
    elif architecture == "i386":
        architecture, variant = "386", ""
    elif architecture == "aarch64":
        architecture = "arm64"
    elif architecture == "armhf":
        architecture, variant = "arm", "v7"
    elif architecture == "armel":
        architecture, variant = "arm", "v6"
    if variant and not variant.startswith("v"):
        variant = f"v{variant}"
    if (architecture, variant) in (("amd64", "v1"), ("arm64", "v8"), ("arm64", "v8.0")):
        variant = ""
    elif architecture == "arm" and not variant:
        variant = "v7"
    return Platform(os_name.lower() or "linux", architecture, variant)


def machine_platforms(machine: str = "", cpuinfo: str | None = None) -> list[Platform]:
    """What this machine runs, the best first. The arguments stand in for uname -m and /proc/cpuinfo."""
    machine = machine or os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    if architecture == "amd64":
        levels = [
            Platform("linux", "amd64", level) for level in _amd64_levels(_cpuinfo() if cpuinfo is None else cpuinfo)
        ]
        return [*levels, Platform("linux", "amd64"), Platform("linux", "386")]
    if architecture == "arm64":
        return [Platform("linux", "arm64"), *_arm("v8")]
    if architecture == "arm":
        return _arm(variant)
    return [Platform("linux", architecture, variant)]


def parse_platform(text: str) -> list[Platform]:
    """What `os/architecture[/variant]`, or an architecture alone, asks for: itself, and what also runs on it.

    Raises UsageError.
    """
    parts = text.split("/")
    if len(parts) > 3 or not all(part and part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise UsageError(f"{text!r} is not a platform", hint="one reads linux/arm64 or linux/arm/v7")
    wanted = normalise_platform(*(("linux", *parts) if len(parts) == 1 else parts))
    if wanted.os == "linux" and wanted.architecture == "arm" and wanted.variant in ("v5", "v6", "v7", "v8"):
        return _arm(wanted.variant)
    if wanted.architecture != "amd64" or wanted.variant not in ("v2", "v3", "v4"):
        return [wanted]
    # x86-64 psABI: a level has all that those below it have.
    lower = [Platform(wanted.os, "amd64", f"v{level}") for level in range(int(wanted.variant[1:]) - 1, 1, -1)]
    return [wanted, *lower, Platform(wanted.os, "amd64")]


def rank(platform: Platform, supported: list[Platform]) -> int | None:
    """How good a platform is here, 0 the best; None if it does not run here."""
    return supported.index(platform) if platform in supported else None


def _arm(variant: str) -> list[Platform]:
    """A 32-bit processor runs its own variant and those before it."""
    return [Platform("linux", "arm", f"v{number}") for number in range(int(variant[1:]), 4, -1)]


def _amd64_levels(cpuinfo: str) -> list[str]:
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            flags.update(line.partition(":")[2].split())
            break
    levels: list[str] = []
    for level, needed in _LEVELS:
        if not flags.issuperset(needed.split()):
            break
        levels.insert(0, level)
    return levels


def _cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
