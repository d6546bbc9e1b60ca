"""The atomic writer: what is seen, what is refused, and what a killed writer leaves.

The layout is documented behaviour: "Mounted ConfigMaps are updated automatically"; pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlite.kubelet.types import KubeletError
from podlite.kubelet.volumes.atomic_writer import File, write_atomically


def files(**content: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode(), 0o644) for name, text in content.items()}


def shown(directory: Path) -> dict[str, str]:
    """What a container sees: all files that do not begin with two dots, through the links."""
    result = {}
    for parent, directories, names in os.walk(directory, followlinks=True):
        directories[:] = [name for name in directories if not name.startswith("..")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".."):
                result[str(path.relative_to(directory))] = path.read_text()
    return result


def versions(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("..2")]


def test_the_layout(tmp_path: Path) -> None:
    assert write_atomically(str(tmp_path), files(a="1", sub__b="2", sub__deep__c="3"))
    (version,) = versions(tmp_path)
    assert os.readlink(tmp_path / "..data") == version
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "sub") == "..data/sub"
    assert shown(tmp_path) == {"a": "1", "sub/b": "2", "sub/deep/c": "3"}
    assert stat.S_IMODE((tmp_path / version).stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "sub/deep").stat().st_mode) == 0o755


def test_an_update_replaces_everything_at_once(tmp_path: Path) -> None:
    write_atomically(str(tmp_path), files(a="1", b="2", sub__c="3"))
    before = os.readlink(tmp_path / "..data")
    assert write_atomically(str(tmp_path), files(a="9", d="4"))
    assert os.readlink(tmp_path / "..data") != before
    assert shown(tmp_path) == {"a": "9", "d": "4"}
    assert sorted(os.listdir(tmp_path)) == sorted(["..data", os.readlink(tmp_path / "..data"), "a", "d"])


def test_nothing_is_written_without_a_change(tmp_path: Path) -> None:
    write_atomically(str(tmp_path), files(a="1", sub__b="2"))
    before = os.readlink(tmp_path / "..data")
    assert not write_atomically(str(tmp_path), files(a="1", sub__b="2"))
    assert os.readlink(tmp_path / "..data") == before
    # A file that is no more, and an empty directory that there is, are changes.
    assert write_atomically(str(tmp_path), files(a="1"))
    assert write_atomically(str(tmp_path), {})
    assert not write_atomically(str(tmp_path), {})
    assert shown(tmp_path) == {}


def test_modes_are_exact_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(str(tmp_path), {"a": File(b"", 0o400), "b/c": File(b"", 0o666)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o400
    assert stat.S_IMODE((tmp_path / "b/c").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755


def test_it_is_published_after_it_is_complete(tmp_path: Path) -> None:
    write_atomically(str(tmp_path), files(a="1"))
    seen: list[tuple[dict[str, str], int]] = []
    publish = lambda: seen.append((shown(tmp_path), len(versions(tmp_path))))  # noqa: E731
    write_atomically(str(tmp_path), files(a="2"), before_publishing=publish)
    assert seen == [({"a": "1"}, 2)]
    write_atomically(str(tmp_path), files(a="2"), before_publishing=publish)
    assert len(seen) == 1


def test_a_failure_before_publishing_changes_nothing(tmp_path: Path) -> None:
    write_atomically(str(tmp_path), files(a="1"))

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write_atomically(str(tmp_path), files(a="2"), before_publishing=fail)
    assert shown(tmp_path) == {"a": "1"}
    assert write_atomically(str(tmp_path), files(a="2"))
    assert len(versions(tmp_path)) == 1


def test_what_a_killed_writer_left_is_put_right(tmp_path: Path) -> None:
    write_atomically(str(tmp_path), files(a="1", old="x"))
    # Killed after the new version was complete; between the link and its renaming; after that, before the links.
    (tmp_path / "..2026_01_01_00_00_00.dead").mkdir()
    (tmp_path / "..2026_01_01_00_00_00.dead" / "a").write_text("half")
    os.symlink("..2026_01_01_00_00_00.dead", tmp_path / "..data_tmp")
    (tmp_path / "a").unlink()
    os.symlink("..data/gone", tmp_path / "gone")
    assert write_atomically(str(tmp_path), files(a="1"))
    assert shown(tmp_path) == {"a": "1"}
    assert len(versions(tmp_path)) == 1
    assert not (tmp_path / "..data_tmp").is_symlink()
    assert not (tmp_path / "gone").is_symlink()
    # Links are looked after also when there is nothing to write.
    (tmp_path / "a").unlink()
    assert not write_atomically(str(tmp_path), files(a="1"))
    assert shown(tmp_path) == {"a": "1"}


def test_mount_points_in_the_volume_stay(tmp_path: Path) -> None:
    (tmp_path / "nested").mkdir()
    write_atomically(str(tmp_path), files(a="1", nested="hidden"))
    assert (tmp_path / "nested").is_dir()
    write_atomically(str(tmp_path), files(a="2"))
    assert (tmp_path / "nested").is_dir()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", 'invalid path: must not be empty: ""'),
        ("/a", "invalid path: must be relative path: /a"),
        ("a/../b", "invalid path: must not contain '..': a/../b"),
        ("..", "invalid path: must not contain '..': .."),
        ("..a", "invalid path: must not start with '..': ..a"),
        ("a" * 4097, "invalid path: must be less than or equal to 4096 characters"),
        ("a/" + "b" * 256, "invalid path: filenames must be less than or equal to 255 characters"),
        (".", "invalid path: must name a file: ."),
    ],
)
def test_paths_that_cannot_be(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(KubeletError) as failure:
        write_atomically(str(tmp_path), {path: File(b"", 0o644)})
    assert failure.value.message == message
    assert os.listdir(tmp_path) == []


NAMES = st.sampled_from(["a", "b", "c", "dir/a", "dir/b", "other/x/y", ".hidden", "a.b"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(NAMES, st.text(max_size=3)), max_size=4))
def test_any_sequence_of_contents_ends_with_the_last(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("volume")
    for content in contents:
        payload = {name: File(text.encode("utf-8", "surrogatepass"), 0o644) for name, text in content.items()}
        write_atomically(str(directory), payload)
        read = {
            str(Path(parent, name).relative_to(directory / "..data")): Path(parent, name).read_bytes()
            for parent, _, names in os.walk(directory / "..data")
            for name in names
        }
        assert read == {name: file.data for name, file in payload.items()}
        links = {name for name in os.listdir(directory) if not name.startswith("..")}
        assert links == {name.partition("/")[0] for name in payload}
        assert len(versions(directory)) == 1
