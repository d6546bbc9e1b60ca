"""Which platform's image is taken (github.com/containerd/platforms; the x86-64 psABI for amd64's levels)."""

from __future__ import annotations

import pytest

from podlite.runtime.image.platform import Platform, machine_platforms, normalise_platform, rank

V1 = "flags\t\t: fpu sse sse2 cx8"
V2 = V1 + " cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = V2 + " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"
# Levels build on one another: without v2's flags, v3's do not count.
ODD = V1 + V3.removeprefix(V2)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "platforms"),
    [
        ("x86_64", V1, ["linux/amd64", "linux/386"]),
        ("x86_64", ODD, ["linux/amd64", "linux/386"]),
        ("x86_64", V3, ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("x86_64", V4, ["linux/amd64/v4", "linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("x86_64", "", ["linux/amd64", "linux/386"]),
        ("aarch64", "", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("armv7l", "", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("riscv64", "", ["linux/riscv64"]),
        ("sparc", "", ["linux/sparc"]),
    ],
)
def test_what_a_machine_runs(machine: str, cpuinfo: str, platforms: list[str]) -> None:
    assert [str(platform) for platform in machine_platforms(machine, cpuinfo)] == platforms


@pytest.mark.parametrize(
    ("stated", "normal"),
    [
        (("linux", "x86_64", ""), "linux/amd64"),
        (("linux", "amd64", "v1"), "linux/amd64"),
        (("linux", "amd64", "v2"), "linux/amd64/v2"),
        (("linux", "aarch64", ""), "linux/arm64"),
        (("linux", "arm64", "v8"), "linux/arm64"),
        (("linux", "arm64", "8"), "linux/arm64"),
        (("linux", "arm", ""), "linux/arm/v7"),
        (("linux", "arm", "6"), "linux/arm/v6"),
        (("linux", "armhf", ""), "linux/arm/v7"),
        (("linux", "armel", ""), "linux/arm/v6"),
        (("", "i386", ""), "linux/386"),
        (("Windows", "AMD64", ""), "windows/amd64"),
    ],
)
def test_one_spelling_for_each(stated: tuple[str, str, str], normal: str) -> None:
    assert str(normalise_platform(*stated)) == normal


def test_rank() -> None:
    supported = machine_platforms("x86_64", V2)
    assert rank(Platform("linux", "amd64", "v2"), supported) == 0
    assert rank(Platform("linux", "amd64"), supported) == 1
    assert rank(Platform("linux", "amd64", "v3"), supported) is None
    assert rank(Platform("windows", "amd64"), supported) is None


def test_this_machine_is_known() -> None:
    assert machine_platforms()
