"""Archives that try to get out of their directory, or to take more than their share.

Every archive is loaded the way a user would load it. Each must be refused with a sentence that names the
entry, leave nothing in the store, and change nothing outside: a canary directory beside the store, which
the archives aim at, is compared before and after.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.cri.errors import ImageError
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.load import load_images
from podlite.runtime.image.store import ImageStore
from tests.support.images import (
    Device,
    Dir,
    Fifo,
    File,
    Files,
    HardLink,
    Layout,
    Node,
    Symlink,
    TestImage,
    docker_archive,
    layer_tar,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


class Scene:
    """A store, and beside it the canary: `victim/secret`, which must not be read, changed or linked to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.victim = directory / "victim"
        self.victim.mkdir()
        (self.victim / "secret").write_text("secret")
        self.store = ImageStore(str(directory / "store"))
        self.before = self._outside()

    def _outside(self) -> dict[str, tuple[int, int, int, bytes]]:
        found = {}
        for parent, directories, files in os.walk(self.victim):
            for name in (*directories, *files, "."):
                path = os.path.join(parent, name)
                status = os.lstat(path)
                content = Path(path).read_bytes() if os.path.isfile(path) else b""
                found[path] = (status.st_mode, status.st_nlink, status.st_mtime_ns, content)
        return found

    def refuse(self, archive: Path, message: str, limits: Limits | None = None) -> None:
        with pytest.raises(ImageError, match=message):
            load_images(self.store, str(archive), limits=limits)
        assert self._outside() == self.before
        assert self.leftovers() == []
        assert self.store.images() == []

    def leftovers(self) -> list[str]:
        """What a failed load left in the store, but for its fixed files; blobs go with the next collection."""
        self.store.collect()
        fixed = {"version", "lock", "index.json"}
        return [
            os.path.join(parent, name)
            for parent, _, files in os.walk(self.store.layout.root)
            for name in files
            if not (parent == self.store.layout.root and name in fixed)
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    yield Scene(tmp_path)


def archive_of(scene: Scene, *layers: Files | bytes) -> Path:
    return docker_archive(scene.directory / "hostile.tar", [TestImage("hostile:1", layers)])


UP = "../" * 30
LONG = "x" * 256

HOSTILE: dict[str, tuple[Files, str]] = {
    "absolute name": ({"{victim}/new": "x"}, r"its name is absolute"),
    "absolute directory": ({"{victim}/": Dir(0o777)}, r"its name is absolute"),
    "dot dot": ({UP + "{victim}/new": "x"}, r"its name contains '\.\.'"),
    "dot dot inside": ({"a/../../victim/new": "x"}, r"its name contains '\.\.'"),
    "dot dot at the end": ({"a/..": Symlink("x")}, r"its name contains '\.\.'"),
    "through an absolute link": (
        {"link": Symlink("{victim}"), "link/new": "x"},
        r"'link/new': it leads through 'link', which this layer has as a symbolic link",
    ),
    "through a relative link": (
        {"a/": Dir(), "a/link": Symlink(UP + "{victim}"), "a/link/new": "x"},
        r"leads through 'a/link'",
    ),
    "through a link to the root": ({"link": Symlink("/"), "link/tmp/new": "x"}, r"leads through 'link'"),
    "through a link to itself": ({"link": Symlink("."), "link/link/new": "x"}, r"leads through 'link'"),
    "through two links": (
        {"one": Symlink("two"), "two": Symlink("{victim}"), "one/new": "x"},
        r"leads through 'one'",
    ),
    "through a file": ({"file": "x", "file/new": "x"}, r"leads through 'file', which this layer has as a file"),
    "over a link": ({"link": Symlink("{victim}/secret"), "./link": "overwritten"}, r"an entry of this name already"),
    "a directory over a link": (
        {"link": Symlink("{victim}"), "link/": Dir(0o777, uid=1)},
        r"an entry of this name already",
    ),
    "a whiteout through a link": ({"link": Symlink("{victim}"), "link/.wh.secret": ""}, r"leads through 'link'"),
    "an opaque mark through a link": ({"link": Symlink("{victim}"), "link/.wh..wh..opq": ""}, r"leads through 'link'"),
    "a whiteout of dot dot": ({"a/.wh...": ""}, r"it is a whiteout of no name"),
    "a whiteout of dot": ({"a/.wh..": ""}, r"it is a whiteout of no name"),
    "a whiteout of nothing": ({".wh.": ""}, r"it is a whiteout of no name"),
    "below a whiteout": ({".wh.a/b": "x"}, r"reserved for whiteouts"),
    "hard link outside": ({"link": HardLink(UP + "{victim}/secret")}, r"hard link contains '\.\.'"),
    "absolute hard link": ({"link": HardLink("{victim}/secret")}, r"hard link is absolute"),
    "hard link through a link": (
        {"dir": Symlink("{victim}"), "link": HardLink("dir/secret")},
        r"hard link to 'dir/secret', which is no file of this layer",
    ),
    "hard link to what is not there": ({"link": HardLink("absent")}, r"hard link to 'absent'"),
    "hard link to a directory": ({"d/": Dir(), "link": HardLink("d")}, r"hard link to 'd'"),
    "hard link to the root": ({"link": HardLink("./")}, r"the hard link has no target"),
    "hard link to itself": ({"link": HardLink("link")}, r"hard link to 'link'"),
    "writing through a hard link to a link": (
        [("link", Symlink("{victim}/secret")), ("hard", HardLink("link")), ("hard", "overwritten")],
        r"an entry of this name already",
    ),
    "character device": ({"dev/mem": Device(1, 1)}, r"it is a character device \(1:1\)"),
    "block device": ({"dev/sda": Device(8, 0, block=True)}, r"it is a block device \(8:0\)"),
    "block device 0/0": ({"dev/x": Device(0, 0, block=True)}, r"it is a block device \(0:0\)"),
    "a file twice": ([("a", "1"), ("a", "2")], r"an entry of this name already"),
    "a file twice by two names": ([("d/a", "1"), ("./d//a", "2")], r"an entry of this name already"),
    "a file where a directory is": ([("a/", Dir()), ("a", "2")], r"an entry of this name already"),
    "a fifo twice": ([("a", Fifo()), ("a", Fifo())], r"an entry of this name already"),
    "a file as the root": ({".": "x"}, r"it would replace the root directory"),
    "a link as the root": ({"./": Symlink("{victim}")}, r"it would replace the root directory"),
    "a component too long": ({f"a/{LONG}": "x"}, r"component of more than 255 bytes"),
    "a directory too long": ({f"{LONG}/a": "x"}, r"component of more than 255 bytes"),
    "a path too long": ({"d/" * 2100 + "f": "x"}, r"longer than 4096 bytes"),
    "a link target too long": ({"l": Symlink("d/" * 2100)}, r"too long"),
    "overlayfs attributes": (
        {"d/": Dir(xattrs={"trusted.overlay.redirect": b"/etc"})},
        r"extended attribute trusted\.overlay\.redirect is overlayfs' own",
    ),
    "overlayfs attributes of users": (
        {"f": File("", xattrs={"user.overlay.metacopy": b""})},
        r"extended attribute user\.overlay\.metacopy is overlayfs' own",
    ),
    "a bad capability": ({"f": File("", xattrs={"security.capability": b"x"})}, r"security\.capability is not valid"),
    "an unknown type": ({"f": Node(type=b"D")}, r"unknown type 'D'"),
    "an owner beyond reason": ({"f": File("", uid=2**32 - 1)}, r"beyond the kernel's range"),
}


def aimed(files: Files, victim: str) -> list[tuple[str, Node | bytes | str]]:
    """The canary's real path in names and targets."""
    aim = []
    for name, node in files.items() if hasattr(files, "items") else files:
        if isinstance(node, Node):
            node.target = node.target.replace("{victim}", victim)
        aim.append((name.replace("{victim}", victim), node))
    return aim


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_layer_is_refused(scene: Scene, name: str) -> None:
    files, message = HOSTILE[name]
    layer = aimed(files, str(scene.victim))
    scene.refuse(archive_of(scene, layer_tar(layer)), rf"layer 1 of image hostile:1 .* is refused because .*{message}")


@pytest.mark.parametrize("name", ["through an absolute link", "hard link through a link"])
def test_links_of_a_layer_below_lead_nowhere_either(scene: Scene, name: str) -> None:
    """The link is in the first layer, and its use in the second; it is resolved inside the image, or not at all."""
    files = dict(aimed(HOSTILE[name][0], str(scene.victim)))
    link, use = ({key: value} for key, value in files.items())
    try:
        (loaded,) = load_images(scene.store, str(archive_of(scene, link, use)))
    except ImageError as error:
        assert "which is no file of this layer" in error.message
    else:
        scene.store.remove(loaded.id)
    assert scene._outside() == scene.before
    assert scene.leftovers() == []


def test_an_unfinished_load_leaves_none_of_its_layers(scene: Scene) -> None:
    """The first two layers are fine, and one is of another image of the same archive."""
    good = TestImage("good:1", [{"a": "a"}])
    bad = TestImage("bad:1", [{"b": "b"}, {"../x": "x"}])
    scene.refuse(docker_archive(scene.directory / "both.tar", [good, bad]), r"layer 2 of image bad:1")


# --- too much ---


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_a_decompression_bomb_is_refused(scene: Scene, compression: str) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    layout = Layout()
    image = TestImage("bomb:1", [{"zeros": b"\0" * 40_000_000}])
    layout.add(layout.image(image, layers=compression), name="docker.io/library/bomb:1")
    path = layout.write_archive(scene.directory / "bomb.tar")
    scene.refuse(path, "looks like a decompression bomb", Limits(ratio_floor=1 << 20, max_ratio=50))


def test_a_compressed_archive_is_measured_too(scene: Scene) -> None:
    image = TestImage("bomb:1", [{"zeros": b"\0" * 40_000_000}])
    path = docker_archive(scene.directory / "bomb.tar", [image], compression="gzip")
    scene.refuse(path, "bomb.tar looks like a decompression bomb", Limits(ratio_floor=1 << 20, max_ratio=50))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_bytes=1_000_000), "more than 1000000 bytes"),
        (Limits(max_entries=50), "more than 50 entries"),
    ],
)
def test_more_than_the_limits_is_refused(scene: Scene, limits: Limits, message: str) -> None:
    files = {f"f{number}": b"x" * 20_000 for number in range(100)}
    scene.refuse(archive_of(scene, files), message, limits)


def test_a_sparse_file_of_enormous_size_is_refused(scene: Scene) -> None:
    """GNU sparse 1.0: 1 PB in one block of map and no data."""
    member = tarfile.TarInfo("f")
    member.size = 512
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "f",
        "GNU.sparse.realsize": str(10**15),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"0\n".ljust(512, b"\0")))
    scene.refuse(archive_of(scene, out.getvalue()), "it is a sparse file of 1000000000000000 bytes")


def test_a_deep_tree_is_unpacked_and_removed(scene: Scene) -> None:
    """As deep as a name may say, which is deeper than Python recurses and than descriptors last."""
    depth = 2000
    (loaded,) = load_images(scene.store, str(archive_of(scene, {"d/" * depth + "f": "x"})))
    record = scene.store.lookup(loaded.id)
    assert record is not None
    fd = os.open(scene.store.layout.layer(record.layers[0]), os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert os.listdir(fd) == ["f"]
    os.close(fd)
    assert scene.store.remove(loaded.id)
    assert scene.leftovers() == []
    assert os.listdir(scene.store.layout.trash) == []


# --- lies ---


def test_a_layer_that_is_not_what_the_image_says_is_refused(scene: Scene) -> None:
    image = TestImage("liar:1", [{"a": "a"}])
    honest = docker_archive(scene.directory / "a.tar", [image]).read_bytes()
    forged = layer_tar({"a": "b"})
    path = scene.directory / "forged.tar"
    path.write_bytes(honest.replace(image.tars()[0], forged))
    scene.refuse(path, "layer 1 of image liar:1 .* is damaged: its diffID is sha256:")


@pytest.mark.parametrize("layers", ["none", "gzip"])
def test_a_layer_blob_that_is_not_what_the_manifest_says_is_refused(scene: Scene, layers: str) -> None:
    """The content unpacks to the right diffID, and still is not the blob that was stated."""
    layout = Layout()
    image = TestImage("liar:1", [{"a": "a"}])
    layout.add(layout.image(image, layers=layers), name="docker.io/library/liar:1")
    for name, content in layout.files.items():
        if content.startswith(b"\x1f\x8b") or content == image.tars()[0]:
            layout.files[name] = content + b"\0" * 512
    scene.refuse(layout.write_directory(scene.directory / "d"), "is damaged: its digest is sha256:")


def test_noise_for_a_layer_is_refused(scene: Scene) -> None:
    scene.refuse(archive_of(scene, os.urandom(4096)), "layer 1 of .* is not a valid tar archive")
