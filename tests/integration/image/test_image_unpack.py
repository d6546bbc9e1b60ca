"""Layers unpacked, and seen through a real overlay mount (OCI image-spec, layer.md)."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from podlite.cri.errors import ImageError
from podlite.runtime.image.config import ImageConfig
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.rootfs import RootfsDescription, resolve_user
from podlite.runtime.image.unpack import Unpacked, unpack_layer
from tests.support.images import Device, Dir, Fifo, File, Files, HardLink, Symlink, compress, layer_tar, sha256
from tests.support.rootfs import Seen, walk_rootfs

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


class Stack:
    """Layers unpacked on one another, as an image's are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lower: list[str] = []
        self._count = 0

    def add(self, files: Files | bytes, limits: Limits | None = None) -> Unpacked:
        import io

        raw = files if isinstance(files, bytes) else layer_tar(files)
        self._count += 1
        target = self.directory / f"layer{self._count}"
        target.mkdir(mode=0o755)
        unpacked = unpack_layer(io.BytesIO(raw).read, str(target), lower=self.lower, limits=limits)
        self.lower = [str(target)] if unpacked.opaque else [str(target), *self.lower]
        return unpacked

    def seen(self) -> dict[str, Seen]:
        rootfs = RootfsDescription(self.lower, [], "sha256:" + "0" * 64, ImageConfig())
        return walk_rootfs(rootfs, self.directory / "overlay")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def build(stack: Stack, layers: Sequence[Files]) -> dict[str, Seen]:
    for layer in layers:
        stack.add(layer)
    return stack.seen()


# --- attributes ---


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_everything_a_member_says_is_kept(stack: Stack, format: int) -> None:
    stack.add(
        layer_tar(
            {
                "./": Dir(0o711, uid=1, gid=2),
                "bin/": Dir(0o2750, uid=3, gid=4, mtime=1_111_111_111),
                "bin/su": File(b"su", mode=0o4755, mtime=1_222_222_222),
                "bin/wall": File(b"wall", mode=0o2755, uid=5, gid=6),
                "bin/secret": File(b"", mode=0o000, uid=4_000_000_000),
                "bin/open": File(b"x", mode=0o666),
                "bin/sh": Symlink("/bin/su", uid=7, gid=8, mtime=1_333_333_333),
                "bin/again": HardLink("bin/su"),
                "bin/sh2": HardLink("bin/sh"),
                "pipe": Fifo(0o620),
                "tmp/": Dir(0o1777),
            },
            format=format,
        )
    )
    seen = stack.seen()
    root = os.stat(stack.lower[0])
    assert (stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid) == (0o711, 1, 2)
    assert (seen["bin"].mode, seen["bin"].uid, seen["bin"].gid) == (0o2750, 3, 4)
    assert seen["bin"].mtime_ns == 1_111_111_111 * 10**9
    assert (seen["bin/su"].mode, seen["bin/su"].content) == (0o4755, b"su")
    assert seen["bin/su"].mtime_ns == 1_222_222_222 * 10**9
    assert (seen["bin/wall"].mode, seen["bin/wall"].uid, seen["bin/wall"].gid) == (0o2755, 5, 6)
    assert (seen["bin/secret"].mode, seen["bin/secret"].uid) == (0, 4_000_000_000)
    assert seen["bin/open"].mode == 0o666
    link = seen["bin/sh"]
    assert (link.kind, link.content, link.uid, link.gid) == ("link", b"/bin/su", 7, 8)
    assert link.mtime_ns == 1_333_333_333 * 10**9
    assert seen["bin/again"].ino == seen["bin/su"].ino
    assert seen["bin/su"].nlink == 2
    assert (seen["bin/sh2"].kind, seen["bin/sh2"].content) == ("link", b"/bin/su")
    assert (seen["pipe"].kind, seen["pipe"].mode) == ("fifo", 0o620)
    assert seen["tmp"].mode == 0o1777


def test_parts_of_seconds_and_times_beyond_reason(stack: Stack) -> None:
    stack.add({"f": File(b"", mtime=1_600_000_000.5), "old/": Dir(mtime=0), "far": File(b"", mtime=2**60)})
    seen = stack.seen()
    assert seen["f"].mtime_ns == 1_600_000_000_500_000_000
    assert seen["old"].mtime_ns == 0
    assert seen["far"].mtime_ns > 2**33 * 10**9


def test_capabilities_and_user_attributes_are_kept_and_labels_are_not(stack: Stack) -> None:
    # VFS_CAP_REVISION_2, effective, CAP_NET_RAW permitted (include/uapi/linux/capability.h)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    xattrs = {
        "security.capability": capability,
        "user.note": b"\x00\xff",
        "security.selinux": b"system_u:object_r:x:s0",
    }
    stack.add({"ping": File(b"x", mode=0o755, uid=9, xattrs=xattrs), "d/": Dir(xattrs={"user.note": b"d"})})
    seen = stack.seen()
    assert seen["ping"].xattrs == {"security.capability": capability, "user.note": b"\x00\xff"}
    assert seen["d"].xattrs == {"user.note": b"d"}


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_files_stay_sparse(stack: Stack, tmp_path: Path, format: str) -> None:
    with (tmp_path / "s").open("wb") as file:
        file.write(b"begin")
        file.seek(50_000_000)
        file.write(b"middle")
        file.truncate(100_000_000)
    subprocess.run(["tar", "-cSf", "s.tar", f"--format={format}", "s"], cwd=tmp_path, check=True)
    stack.add((tmp_path / "s.tar").read_bytes())
    unpacked = Path(stack.lower[0], "s")
    assert unpacked.read_bytes() == (tmp_path / "s").read_bytes()
    assert unpacked.stat().st_blocks * 512 < 1_000_000


def test_what_was_unpacked_is_counted(stack: Stack) -> None:
    raw = layer_tar({"d/": Dir(), "f": File(b"x" * 5000), "l": Symlink("f")})
    packed = compress(raw, "gzip")
    unpacked = stack.add(packed)
    assert (unpacked.digest, unpacked.diff_id) == (sha256(packed), sha256(raw))
    assert (unpacked.entries, unpacked.bytes, unpacked.opaque) == (3, 5000, False)
    assert unpacked.disk_bytes >= 8192


def test_many_directories_need_few_descriptors(stack: Stack) -> None:
    files = {f"d{number}/f": str(number) for number in range(600)}
    files.update({f"d{number}/g": str(number) for number in range(600)})
    before = len(os.listdir("/proc/self/fd"))
    stack.add(files)
    assert len(os.listdir("/proc/self/fd")) == before
    assert Path(stack.lower[0], "d17", "g").read_text() == "17"


# --- whiteouts ---

BASE: Files = {
    "a/": Dir(),
    "a/b/": Dir(),
    "a/b/c/": Dir(),
    "a/b/c/bar": "bar",
    "bin/": Dir(),
    "bin/tool": "tool",
    "bin/tools/": Dir(),
    "bin/tools/one": "one",
    "keep": "keep",
}


def paths(seen: dict[str, Seen]) -> set[str]:
    return set(seen)


def test_a_whiteout_hides_a_file_and_a_tree_and_itself(stack: Stack) -> None:
    seen = build(stack, [BASE, {"bin/.wh.tool": "", "a/.wh.b": ""}])
    assert paths(seen) == {"a", "bin", "bin/tools", "bin/tools/one", "keep"}


def test_the_specifications_example_of_opaque_directories(stack: Stack) -> None:
    seen = build(stack, [BASE, {"bin/": Dir(), "bin/.wh..wh..opq": ""}])
    assert paths(seen) == {"a", "a/b", "a/b/c", "a/b/c/bar", "bin", "keep"}


NEW = {"a/b/": Dir(), "a/b/c/": Dir(), "a/b/c/foo": "foo"}


@pytest.mark.parametrize(
    "layer",
    [
        {"a/": Dir(), "a/.wh..wh..opq": "", **NEW},
        {"a/": Dir(), **NEW, "a/.wh..wh..opq": ""},
        {"a/": Dir(), "a/.wh.b": "", **NEW},
        {"a/": Dir(), **NEW, "a/.wh.b": ""},
    ],
    ids=["opaque first", "opaque last", "whiteout first", "whiteout last"],
)
def test_what_is_removed_and_made_anew_is_new_in_any_order(stack: Stack, layer: Files) -> None:
    """layer.md: a whiteout applies to lower layers only, wherever it stands in its own."""
    seen = build(stack, [BASE, layer])
    assert {path for path in seen if path.startswith("a/")} == {"a/b", "a/b/c", "a/b/c/foo"}


@pytest.mark.parametrize("first", [True, False])
def test_a_directory_replaced_by_a_file_and_a_file_by_a_directory(stack: Stack, first: bool) -> None:
    pairs = [("bin/.wh.tools", ""), ("bin/tools", "now a file")]
    more = [("bin/.wh.tool", ""), ("bin/tool/", Dir()), ("bin/tool/x", "x")]
    order = [*pairs, *more] if first else [*pairs[::-1], *more[1:], more[0]]
    seen = build(stack, [BASE, order])
    assert {path for path in seen if path.startswith("bin/")} == {"bin/tools", "bin/tool", "bin/tool/x"}
    assert seen["bin/tools"].content == b"now a file"


def test_whiteouts_reach_through_many_layers(stack: Stack) -> None:
    seen = build(
        stack, [BASE, {"keep": "new"}, {".wh.keep": ""}, {"x": ""}, {"bin/.wh.tool": ""}, {"bin/tool": "again"}]
    )
    assert "keep" not in seen
    assert seen["bin/tool"].content == b"again"


def test_an_opaque_root_hides_all_layers_below(stack: Stack) -> None:
    seen = build(stack, [BASE, {"old": ""}, {".wh..wh..opq": "", "new": "new"}, {"newer": ""}])
    assert paths(seen) == {"new", "newer"}


def test_overlayfs_own_form_of_a_whiteout_is_one_too(stack: Stack) -> None:
    seen = build(stack, [BASE, {"keep": Device(0, 0)}])
    assert "keep" not in seen


def test_aufs_housekeeping_is_ignored(stack: Stack) -> None:
    seen = build(stack, [BASE, {".wh..wh.aufs": "", ".wh..wh.plnk/": Dir(), ".wh..wh.plnk/1.2": "", "x": ""}])
    assert paths(seen) == {*paths_of(BASE), "x"}


def paths_of(files: Files) -> set[str]:
    return {name.rstrip("/") for name in dict(files)}


def test_a_whiteout_of_what_is_not_there_is_nothing(stack: Stack) -> None:
    seen = build(stack, [BASE, {".wh.absent": "", "absent-too/.wh.x": ""}])
    assert paths(seen) == {*paths_of(BASE), "absent-too"}


# --- what a layer leaves out is meant as it is below ---


def test_implied_directories_look_as_they_do_below(stack: Stack) -> None:
    """layer.md's own example of a change set leaves out the parents of what it changes."""
    seen = build(
        stack,
        [
            {"tmp/": Dir(0o1777, uid=1, gid=2, mtime=1_234_567_890), "tmp/sub/": Dir(0o700, uid=3)},
            {"other": ""},
            {"tmp/sub/file": "x", "fresh/file": "y"},
        ],
    )
    assert (seen["tmp"].mode, seen["tmp"].uid, seen["tmp"].gid) == (0o1777, 1, 2)
    assert seen["tmp"].mtime_ns == 1_234_567_890 * 10**9
    assert (seen["tmp/sub"].mode, seen["tmp/sub"].uid) == (0o700, 3)
    assert (seen["fresh"].mode, seen["fresh"].uid) == (0o755, 0)


def test_an_entry_for_the_directory_wins_wherever_it_stands(stack: Stack) -> None:
    seen = build(stack, [{"d/": Dir(0o700)}, [("d/f", "x"), ("d/", Dir(0o750))]])
    assert seen["d"].mode == 0o750


def test_what_goes_through_a_link_of_a_lower_layer_goes_where_it_leads(stack: Stack) -> None:
    """/lib is a link on most distributions; a layer that adds lib/x must not replace it by a directory."""
    base = {
        "usr/lib/": Dir(),
        "usr/lib/libc": "libc",
        "lib": Symlink("usr/lib"),
        "deep/": Dir(),
        "deep/link": Symlink("/lib"),
        "away": Symlink("/../../../../../../tmp"),
    }
    seen = build(stack, [base, {"lib/new/file": "1", "deep/link/two": "2", "lib/.wh.libc": ""}])
    assert (seen["lib"].kind, seen["lib"].content) == ("link", b"usr/lib")
    assert seen["usr/lib/new/file"].content == b"1"
    assert seen["usr/lib/two"].content == b"2"
    assert "usr/lib/libc" not in seen


def test_a_link_below_that_leads_nowhere_is_replaced(stack: Stack) -> None:
    seen = build(stack, [{"d": Symlink("/absent"), "loop": Symlink("loop")}, {"d/f": "x", "loop/f": "y"}])
    assert seen["d"].kind == "dir"
    assert seen["d/f"].content == b"x"
    assert seen["loop/f"].content == b"y"


def test_an_entry_replaces_a_link_below_by_a_directory(stack: Stack) -> None:
    seen = build(stack, [{"usr/lib/f": "", "lib": Symlink("usr/lib")}, {"lib/": Dir(), "lib/g": ""}])
    assert seen["lib"].kind == "dir"
    assert "lib/f" not in seen


# --- the merged view without a mount ---


def test_the_merged_view_is_what_overlayfs_shows(stack: Stack) -> None:
    layers: list[Files] = [
        {**dict(BASE), "l": Symlink("a/b"), "abs": Symlink("/bin/tools"), "up": Symlink("../../keep")},
        {"a/b/.wh..wh..opq": "", "a/b/new": "new", "bin/.wh.tool": ""},
        {"a/b/new": "newer", "bin/tool/": Dir(), "bin/tool/x": "x"},
    ]
    seen = build(stack, layers)
    with MergedTree(stack.lower) as tree:
        for path, entry in seen.items():
            found = tree.resolve(path, follow=False)
            assert found is not None, path
            assert (found[0], stat.S_IMODE(found[1].st_mode)) == (path, entry.mode)
            if entry.kind == "file":
                assert tree.read(path, limit=100) == entry.content
        for path in ("a/b/c", "a/b/c/bar", "keep/", "absent/x"):
            assert path.rstrip("/") in seen or tree.resolve(path) is None
        assert tree.read("/l/new", limit=100) == b"newer"
        assert tree.read("abs/one", limit=100) == b"one"
        assert tree.read("up", limit=100) == b"keep"
        assert tree.read("a/../../../keep", limit=100) == b"keep"
        with pytest.raises(OSError, match="Not a directory"):
            tree.resolve("keep/x")


def test_users_are_found_in_the_layers(stack: Stack) -> None:
    stack.add({"etc/passwd": "app:x:100:101::/srv/app:/bin/sh\n", "etc/group": "extra:x:55:app\n"})
    stack.add({"etc/.wh.group": ""})
    stack.add({"etc/group": "other:x:56:app\n"})
    with MergedTree(stack.lower) as tree:
        user = resolve_user(tree, image_user="app")
    assert (user.uid, user.gid, user.groups, user.home) == (100, 101, [56, 101], "/srv/app")


# --- where the store cannot record removals ---


def test_whiteouts_that_hide_nothing_leave_no_trace(stack: Stack) -> None:
    """In a directory that is not merged, or is opaque, overlayfs would list them as entries."""
    layers: list[Files] = [
        BASE,
        {
            "only/": Dir(),
            "only/.wh.x": "",
            "bin/": Dir(),
            "bin/.wh.tool": "",
            "bin/.wh..wh..opq": "",
            "bin/new": "",
            "a/.wh.b": "",
            "a/b/": Dir(),
            "a/b/.wh.c": "",
            "keep/.wh.x": "",
        },
    ]
    seen = build(stack, layers)
    assert paths(seen) == {"only", "bin", "bin/new", "a", "a/b", "keep"}
    assert not [path for path in Path(stack.lower[0]).rglob("*") if path.is_char_device()]


ON_OVERLAY = """
import io, json, os, sys
from podlite.cri.errors import ImageError
from podlite.linux.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare
from podlite.runtime.image.config import ImageConfig
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.rootfs import RootfsDescription
from podlite.runtime.image.unpack import unpack_layer
from tests.support.images import Dir, layer_tar

base = sys.argv[1]
unshare(CLONE_NEWNS)
mount(None, "/", None, MS_REC | MS_PRIVATE)
for name in ("l", "u", "w", "m"):
    os.mkdir(f"{base}/{name}")
mount("overlay", f"{base}/m", "overlay", 0, f"lowerdir={base}/l,upperdir={base}/u,workdir={base}/w")
lower = []
for number, files in enumerate((
    {"d/f": "x", "d/g": "x", "d/sub/h": "x", "o/old": "x", "top": "x"},
    {"d/.wh.f": "", "d/.wh.sub": "", "o/": Dir(), "o/.wh..wh..opq": "", "o/new": "x", ".wh.top": ""},
)):
    layer = f"{base}/m/layer{number}"
    os.mkdir(layer)
    try:
        unpack_layer(io.BytesIO(layer_tar(files)).read, layer, lower=lower)
    except ImageError as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit()
    lower.insert(0, layer)
mount("tmpfs", f"{base}/w", "tmpfs")
os.mkdir(f"{base}/w/upper"), os.mkdir(f"{base}/w/work"), os.mkdir(f"{base}/w/root")
options = f"lowerdir={':'.join(lower)},upperdir={base}/w/upper,workdir={base}/w/work"
mount("overlay", f"{base}/w/root", "overlay", 0, options)
seen = sorted(
    os.path.relpath(os.path.join(parent, name), f"{base}/w/root")
    for parent, directories, files in os.walk(f"{base}/w/root")
    for name in (*directories, *files)
)
with MergedTree(lower) as tree:
    paths = ("d", "d/f", "d/g", "d/sub", "d/sub/h", "o", "o/new", "o/old", "top")
    merged = [path for path in paths if tree.resolve(path)]
print(json.dumps({"seen": seen, "merged": merged}))
"""


def test_a_store_on_an_overlay_records_removals_too(tmp_path: Path) -> None:
    """There a character device 0/0 cannot be made; since 6.8 the kernel has another form for it. Before, it is said."""
    result = subprocess.run(
        [sys.executable, "-c", ON_OVERLAY, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        check=False,
    )
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    version = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if version >= (6, 8):
        assert outcome == {"seen": ["d", "d/g", "o", "o/new"], "merged": ["d", "d/g", "o", "o/new"]}
    else:
        assert "of the layers below, which cannot be recorded" in outcome["refused"]
        assert "--state-dir" in outcome["refused"]


def test_limits_are_for_one_layer(stack: Stack) -> None:
    files = {f"f{number}": "x" for number in range(10)}
    stack.add(files, Limits(max_entries=10))
    with pytest.raises(ImageError, match="more than 9 entries"):
        stack.add(files, Limits(max_entries=9))
