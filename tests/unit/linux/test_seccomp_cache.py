from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podlite.linux import capabilities, seccomp
from podlite.linux.seccomp_profile import FLAG_LOG, SeccompError

BOUNDING = capabilities.DEFAULT


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_compiled", {})


def stored(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def forget() -> None:
    seccomp._compiled.clear()


def test_programs_are_stored_and_used(tmp_path: Path) -> None:
    cache = tmp_path / "made" / "on demand"
    first = seccomp.default_filter(BOUNDING, str(cache))
    assert len(first.program) % 8 == 0
    file = stored(cache)
    assert file.stat().st_mode & 0o777 == 0o600
    # What is stored is taken as it is, so another program in the right form comes back.
    another = seccomp.Filter(b"\x06\0\0\0\0\0\xff\x7f", 2)
    seccomp._store(str(cache), file.name, another)
    assert seccomp.default_filter(BOUNDING, str(cache)) == first  # still in memory
    forget()
    assert seccomp.default_filter(BOUNDING, str(cache)) == another


def test_distinct_input_has_distinct_programs(tmp_path: Path) -> None:
    one = seccomp.default_filter(BOUNDING, str(tmp_path))
    other = seccomp.default_filter(BOUNDING | capabilities.bit("SYS_ADMIN"), str(tmp_path))
    assert one.program != other.program
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:16],
        lambda content: content[:-8],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"plscmp00" + content[8:],
        lambda content: b"\0" * len(content),
    ],
)
def test_a_damaged_program_is_compiled_again(tmp_path: Path, damage: object) -> None:
    expected = seccomp.default_filter(BOUNDING, str(tmp_path))
    file = stored(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))  # type: ignore[operator]
    forget()
    assert seccomp.default_filter(BOUNDING, str(tmp_path)) == expected
    assert stored(tmp_path).read_bytes() == whole


def test_a_program_that_others_may_change_is_not_trusted(tmp_path: Path) -> None:
    expected = seccomp.default_filter(BOUNDING, str(tmp_path))
    stored(tmp_path).chmod(0o622)
    forget()
    assert seccomp.default_filter(BOUNDING, str(tmp_path)) == expected
    assert stored(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    expected = seccomp.default_filter(BOUNDING, str(tmp_path))
    file = stored(tmp_path)
    elsewhere = tmp_path.parent / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    forget()
    assert seccomp.default_filter(BOUNDING, str(tmp_path)) == expected
    assert not stored(tmp_path).is_symlink()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert seccomp.default_filter(BOUNDING, str(blocked / "cache")).program


def test_profile_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    document = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    path.write_text(json.dumps(document))
    cache = tmp_path / "cache"
    first = seccomp.file_filter(str(path), BOUNDING, str(cache))
    assert first.flags == FLAG_LOG
    forget()
    assert seccomp.file_filter(str(path), BOUNDING, str(cache)) == first
    # The content counts, not the name.
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG"}))
    assert seccomp.file_filter(str(path), BOUNDING, str(cache)) != first
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{", "cannot be used: it is not JSON"),
        (b"\xff", "cannot be used: it is not JSON"),
        (b'{"defaultAction": "allow"}', "cannot be used: defaultAction: 'allow' is not a known seccomp action"),
        (b" " * ((1 << 20) + 1), "has more than 1048576 bytes"),
    ],
)
def test_problems_name_the_file(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SeccompError, match=f"{path} {said}"):
        seccomp.file_filter(str(path), BOUNDING)


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v657", (6, 18)), ("5.15.0-91-generic", (5, 15)), ("6.1", (6, 1)), ("strange", (0, 0))],
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert seccomp._kernel_version(release) == version


def test_nothing_is_left_beside_the_program(tmp_path: Path) -> None:
    seccomp.default_filter(BOUNDING, str(tmp_path))
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
