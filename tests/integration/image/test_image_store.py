"""Images loaded, named, found, pinned and removed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.cri.errors import ImageError, InvalidArgumentError
from podlite.linux.fs import FileLock, remove_tree
from podlite.linux.syscalls import MNT_DETACH, mount, umount2
from podlite.runtime.image.assembly import EMPTY_LAYER
from podlite.runtime.image.layout import VERSION, boot_id
from podlite.runtime.image.load import load_images
from podlite.runtime.image.record import ImageRecord
from podlite.runtime.image.rootfs import describe_rootfs
from podlite.runtime.image.store import ImageStore
from tests.support.image_worker import leftovers
from tests.support.images import (
    Dir,
    Layout,
    Symlink,
    TestImage,
    busybox_files,
    docker_archive,
    layer_tar,
    oci_archive,
    oci_layout,
    sha256,
)
from tests.support.rootfs import run_in_rootfs, walk_rootfs

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

BASE = layer_tar({"base": "base"})
ONE = TestImage("demo:1", [BASE, {"one": "1"}])
TWO = TestImage("demo:2", [BASE, {"two": "2"}])


class Loader:
    """A store, and a way to load test images into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = ImageStore(str(directory / "store"))

    def load(self, *images: TestImage) -> list[str]:
        loaded = load_images(self.store, str(docker_archive(self.directory / "images.tar", images)))
        return [image.id for image in loaded]

    def record(self, reference: str) -> ImageRecord:
        record = self.store.lookup(reference)
        assert record is not None, reference
        return record

    def layers(self) -> set[str]:
        return set(os.listdir(self.store.layout.layers))

    def layer_exists(self, record: ImageRecord) -> bool:
        return all(os.path.isdir(self.store.layout.layer(layer)) for layer in record.layers)


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


# --- loading ---


def test_an_image_runs(loader: Loader) -> None:
    files = {**busybox_files(), "tmp/": Dir(0o1777), "greeting": "hello\n"}
    loader.load(TestImage("demo:1", [files, {"greeting": "hello from above\n"}]))
    rootfs = describe_rootfs(loader.store, loader.record("demo:1"))
    result = run_in_rootfs(rootfs, ["/bin/sh", "-c", "cat /greeting; id -u"], loader.directory / "run")
    assert (result.stdout, result.stderr) == ("hello from above\n0\n", "")


def test_every_kind_of_file_gives_the_same_image(loader: Loader, tmp_path: Path) -> None:
    seen = []
    paths = [
        docker_archive(tmp_path / "docker.tar", [ONE]),
        docker_archive(tmp_path / "docker.tar.gz", [ONE], compression="gzip"),
        oci_archive(tmp_path / "oci.tar", [ONE]),
        oci_archive(tmp_path / "oci.tar.xz", [ONE], layers="none", compression="xz"),
        oci_layout(tmp_path / "layout", [ONE]),
    ]
    for path in paths:
        (loaded,) = load_images(loader.store, str(path))
        assert loaded.id == ONE.id
        assert "docker.io/library/demo:1" in loaded.names
        seen.append(walk_rootfs(describe_rootfs(loader.store, loader.record("demo:1")), tmp_path / "walk"))
        assert loader.store.remove(loaded.id)
        shutil.rmtree(tmp_path / "walk")
    assert {path: entry.content for path, entry in seen[0].items()} == {"base": b"base", "one": b"1"}
    assert all(
        {path: entry._replace(ino=0) for path, entry in each.items()}
        == {path: entry._replace(ino=0) for path, entry in seen[0].items()}
        for each in seen
    )


def test_zstd_layers(loader: Loader, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    (loaded,) = load_images(loader.store, str(oci_layout(tmp_path / "layout", [ONE], layers="zstd")))
    assert loaded.id == ONE.id


def test_an_archive_may_come_through_a_pipe(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "images.tar", [ONE])
    code = (
        "import sys; from podlite.runtime.image.load import load_images;"
        "from podlite.runtime.image.store import ImageStore;"
        "print(load_images(ImageStore(sys.argv[1]), '-')[0].id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run(command, input=archive.read_bytes(), capture_output=True, check=True, cwd=root)
    assert result.stdout.decode().strip() == ONE.id


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes_is_loaded(loader: Loader, tmp_path: Path, transport: str) -> None:
    source = docker_archive(tmp_path / "source.tar", [ONE])
    target = tmp_path / "target"
    subprocess.run(
        ["skopeo", "copy", "--insecure-policy", f"docker-archive:{source}", f"{transport}:{target}:quay.io/x/demo:3"],
        check=True,
        capture_output=True,
    )
    load_images(loader.store, str(target))
    seen = walk_rootfs(describe_rootfs(loader.store, loader.record("quay.io/x/demo:3")), tmp_path / "walk")
    assert {path: entry.content for path, entry in seen.items()} == {"base": b"base", "one": b"1"}


def test_layers_are_unpacked_once_and_shared(loader: Loader) -> None:
    loader.load(ONE, TWO)
    assert loader.record("demo:1").layers[0] == loader.record("demo:2").layers[0]
    assert len(loader.layers()) == 3
    base = loader.store.layout.layer(loader.record("demo:1").layers[0])
    before = os.stat(f"{base}/base").st_ino
    loader.load(TestImage("demo:3", [BASE, {"three": "3"}]))
    assert os.stat(f"{base}/base").st_ino == before


def test_the_same_layer_on_another_base_is_another(loader: Loader) -> None:
    """It leaves out /tmp, and so means the one that is below."""
    change = layer_tar({"tmp/file": "x"})
    loader.load(
        TestImage("sticky:1", [{"tmp/": Dir(0o1777)}, change]),
        TestImage("plain:1", [{"tmp/": Dir(0o755)}, change]),
    )
    for name, mode in (("sticky:1", 0o1777), ("plain:1", 0o755)):
        seen = walk_rootfs(describe_rootfs(loader.store, loader.record(name)), loader.directory / name[:5])
        assert seen["tmp"].mode == mode


def test_an_image_of_no_layers_has_an_empty_root(loader: Loader) -> None:
    loader.load(TestImage("scratch:1", []))
    record = loader.record("scratch:1")
    assert record.layers == [EMPTY_LAYER.removeprefix("sha256:")]
    assert walk_rootfs(describe_rootfs(loader.store, record), loader.directory / "walk") == {}


def test_layers_below_an_opaque_root_are_left_out(loader: Loader) -> None:
    loader.load(TestImage("flat:1", [BASE, {".wh..wh..opq": "", "new": "new"}, {"top": ""}]))
    rootfs = describe_rootfs(loader.store, loader.record("flat:1"))
    assert set(walk_rootfs(rootfs, loader.directory / "walk")) == {"new", "top"}


def test_layers_come_top_first(loader: Loader) -> None:
    loader.load(ONE)
    rootfs = describe_rootfs(loader.store, loader.record("demo:1"))
    assert [os.listdir(layer) for layer in rootfs.lower] == [["one"], ["base"]]
    assert rootfs.binds == []
    assert rootfs.image_id == ONE.id


def test_loading_twice_changes_nothing_but_the_time(loader: Loader) -> None:
    loader.load(ONE)
    record = loader.record("demo:1")
    loader.load(ONE)
    assert loader.record("demo:1") == record
    assert leftovers(loader.store) == []


def test_the_configuration_is_kept_as_it_came(loader: Loader) -> None:
    loader.load(ONE)
    assert loader.store.read_blob(ONE.id) == ONE.config_blob()
    assert loader.store.read_blob("sha256:" + "0" * 64) is None


def test_usage_counts_each_layer_once(loader: Loader) -> None:
    assert (loader.store.usage().bytes, loader.store.usage().inodes) == (0, 0)
    loader.load(ONE)
    first = loader.store.usage()
    loader.load(TWO)
    second = loader.store.usage()
    assert first.bytes >= 2 * 4096
    assert second.inodes == first.inodes + 1


# --- names ---


def test_an_image_is_found_by_all_that_stands_for_it(loader: Loader, tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.image(ONE)
    layout.add(descriptor, name="docker.io/library/demo:1")
    load_images(loader.store, str(layout.write_directory(tmp_path / "layout")))
    hexadecimal = ONE.id.removeprefix("sha256:")
    for reference in (
        "demo:1",
        "docker.io/demo:1",
        "docker.io/library/demo:1",
        f"demo@{descriptor['digest']}",
        f"demo:anything@{descriptor['digest']}",
        ONE.id,
        hexadecimal,
        hexadecimal[:12],
        f"sha256:{hexadecimal[:7]}",
    ):
        assert loader.record(reference).id == ONE.id
    for reference in (
        "demo",
        "demo:2",
        "x/demo:1",
        "",
        "Bad Name",
        "0" * 64,
        "sha256:" + "0" * 64,
        descriptor["digest"],
    ):
        assert loader.store.lookup(reference) is None


def test_a_prefix_of_several_ids_is_an_error(loader: Loader) -> None:
    # 17 images have at least one pair of ids with the same first digit.
    ids = loader.load(*(TestImage(f"demo:{number}", [BASE], {"Cmd": [str(number)]}) for number in range(17)))
    digits = [id.removeprefix("sha256:")[0] for id in ids]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(ImageError, match=f"'sha256:{shared}' is the beginning of the ids of"):
        loader.store.lookup(f"sha256:{shared}")


def test_a_name_has_precedence_over_a_prefix_of_an_id(loader: Loader) -> None:
    prefix = ONE.id.removeprefix("sha256:")[:6]
    loader.load(ONE, TestImage(f"{prefix}:latest", [BASE]))
    assert loader.record(prefix).id != ONE.id


def test_a_tag_moves_and_an_image_without_tags_goes(loader: Loader) -> None:
    loader.load(ONE)
    old = loader.record("demo:1")
    newer = TestImage("demo:1", [BASE, {"newer": ""}])
    loader.load(newer)
    assert loader.record("demo:1").id == newer.id
    assert loader.store.lookup(old.id) is None
    assert loader.layers() == set(loader.record("demo:1").layers)


def test_an_image_with_another_tag_stays(loader: Loader) -> None:
    loader.load(TestImage("demo:1", [BASE], extra_names=["demo:stable"]))
    loader.load(TestImage("demo:1", [BASE, {"newer": ""}]))
    assert loader.record("demo:stable").id != loader.record("demo:1").id
    assert [image.names for image in loader.store.images()] == [
        ["docker.io/library/demo:1"],
        ["docker.io/library/demo:stable"],
    ]


def test_an_image_without_a_name_is_known_by_its_id(loader: Loader) -> None:
    (id,) = loader.load(TestImage("", [BASE]))
    assert [image.names for image in loader.store.images()] == [[]]
    loader.load(ONE)
    assert loader.record(id).id == id


# --- removal ---


def test_removal_by_one_tag_takes_all_of_them(loader: Loader) -> None:
    """CRI: RemoveImage removes the image; the same configuration is one image."""
    loader.load(TestImage("demo:1", [BASE], extra_names=["demo:2", "quay.io/x/demo:3"]), TWO)
    assert loader.store.remove("quay.io/x/demo:3")
    assert loader.store.lookup("demo:1") is None
    assert loader.record("demo:2").id == TWO.id
    assert leftovers(loader.store) == []


def test_removal_leaves_what_others_need(loader: Loader) -> None:
    loader.load(ONE, TWO)
    assert loader.store.remove("demo:1")
    assert loader.layers() == set(loader.record("demo:2").layers)
    assert loader.store.remove("demo:2")
    assert loader.layers() == set()
    assert leftovers(loader.store) == []


def test_removal_is_idempotent(loader: Loader) -> None:
    assert not loader.store.remove("demo:1")
    loader.load(ONE)
    assert loader.store.remove("demo:1")
    assert not loader.store.remove("demo:1")


def test_a_store_that_is_not_there_is_empty(loader: Loader) -> None:
    assert loader.store.images() == []
    assert loader.store.lookup("demo:1") is None
    assert loader.store.holders() == {}
    loader.store.release("nobody")
    loader.store.collect()
    assert not os.path.exists(loader.store.layout.root)


# --- pins ---


def test_a_pinned_image_keeps_its_layers_until_the_last_release(loader: Loader) -> None:
    loader.load(ONE)
    record = loader.record("demo:1")
    for holder in ("container-1", "container-2"):
        assert loader.store.acquire("demo:1", holder) == record
    assert loader.store.holders() == {"container-1": ONE.id, "container-2": ONE.id}
    assert loader.store.remove("demo:1")
    assert loader.store.lookup(ONE.id) is None
    assert loader.store.images() == []
    for holder in ("container-1", "container-2"):
        assert loader.layer_exists(record)
        loader.store.release(holder)
        loader.store.release(holder)
    assert leftovers(loader.store) == []


def test_a_pin_survives_the_loss_of_the_tag(loader: Loader) -> None:
    loader.load(ONE)
    record = loader.store.acquire("demo:1", "container")
    assert record is not None
    loader.load(TestImage("demo:1", [BASE, {"newer": ""}]))
    assert loader.layer_exists(record)
    loader.store.release("container")
    assert not loader.layer_exists(record)


def test_an_image_that_comes_back_while_it_is_pinned_stays(loader: Loader) -> None:
    loader.load(ONE)
    loader.store.acquire("demo:1", "container")
    loader.store.remove("demo:1")
    loader.load(ONE)
    loader.store.release("container")
    assert loader.layer_exists(loader.record("demo:1"))
    assert leftovers(loader.store) == []


def test_acquiring_is_idempotent_and_a_holder_has_one_image(loader: Loader) -> None:
    loader.load(ONE, TWO)
    for _ in range(2):
        loader.store.acquire("demo:1", "container")
    assert loader.store.holders() == {"container": ONE.id}
    loader.store.acquire("demo:2", "container")
    assert loader.store.holders() == {"container": TWO.id}
    assert os.listdir(loader.store.layout.pins) == ["container"]
    assert loader.store.acquire("absent:1", "container") is None
    assert loader.store.holders() == {"container": TWO.id}


def test_pins_end_with_a_reboot(loader: Loader) -> None:
    loader.load(ONE)
    record = loader.record("demo:1")
    os.symlink(f"{'0' * 8}-an-earlier-boot/{record.hex}", f"{loader.store.layout.pins}/container")
    assert loader.store.holders() == {}
    assert boot_id() not in os.readlink(f"{loader.store.layout.pins}/container")
    loader.store.remove("demo:1")
    assert not loader.layer_exists(record)
    assert leftovers(loader.store) == []


@pytest.mark.parametrize("holder", ["", "a/b", "../x", ".hidden", "x\0", "x" * 300])
def test_a_holder_is_no_path(loader: Loader, holder: str) -> None:
    loader.load(ONE)
    with pytest.raises(InvalidArgumentError):
        loader.store.acquire("demo:1", holder)
    with pytest.raises(InvalidArgumentError):
        loader.store.release(holder)


# --- writers ---


def test_what_a_live_writer_makes_is_not_collected(loader: Loader) -> None:
    loader.load(ONE)
    layer = loader.record("demo:1").layers[0]
    with loader.store.writer() as writer:
        writer.protect([layer])
        assert loader.store.remove("demo:1")
        assert loader.layers() == {layer}
        assert writer.layer(layer) is not None
    loader.store.collect()
    assert loader.layers() == set()


def test_a_writer_that_fails_leaves_nothing(loader: Loader) -> None:
    def fill(target: str) -> object:
        Path(target, "half").write_text("x")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"), loader.store.writer() as writer:
        writer.protect(["0" * 64])
        writer.add_layer("0" * 64, fill)  # type: ignore[arg-type]
    assert leftovers(loader.store) == []


def test_an_image_cannot_be_committed_without_its_layers(loader: Loader) -> None:
    loader.load(ONE)
    record = loader.record("demo:1")
    record.layers = ["0" * 64]
    record.id = "sha256:" + "1" * 64
    with loader.store.writer() as writer, pytest.raises(ImageError, match=f"layer {'0' * 64} .* is missing"):
        writer.commit([(record, ["docker.io/library/broken:1"])])
    assert loader.store.lookup("broken:1") is None


# --- blobs that arrive piece by piece ---

BLOB = os.urandom(100_000)


def test_a_blob_that_was_interrupted_goes_on(loader: Loader) -> None:
    digest = sha256(BLOB)
    with loader.store.writer() as writer:
        writer.protect(blobs=[digest])
        with writer.ingest(digest, len(BLOB)) as partial:
            assert (partial.offset, partial.complete) == (0, False)
            partial.write(BLOB[:30_000])
    with loader.store.writer() as writer:
        writer.protect(blobs=[digest])
        with writer.ingest(digest, len(BLOB)) as partial:
            assert partial.offset == 30_000
            with pytest.raises(ImageError, match="30000 of 100000 bytes arrived"):
                partial.commit()
            partial.write(BLOB[30_000:])
            partial.commit()
        assert loader.store.read_blob(digest) == BLOB
        with writer.ingest(digest, len(BLOB)) as partial:
            assert partial.complete
    loader.store.collect()
    assert loader.store.read_blob(digest) is None


@pytest.mark.parametrize(
    ("arrived", "message"), [(b"x" * len(BLOB), "is damaged"), (BLOB + b"x", "should have 100000 bytes")]
)
def test_a_blob_that_is_not_what_was_promised_is_forgotten(loader: Loader, arrived: bytes, message: str) -> None:
    with loader.store.writer() as writer:
        with pytest.raises(ImageError, match=message), writer.ingest(sha256(BLOB), len(BLOB)) as partial:
            partial.write(arrived)
            partial.commit()
        with writer.ingest(sha256(BLOB), len(BLOB)) as partial:
            assert partial.offset == 0
    assert loader.store.read_blob(sha256(BLOB)) is None


# --- a store that is not right, and a machine that refuses ---


def test_a_store_of_a_newer_podlite_is_refused(loader: Loader) -> None:
    loader.load(ONE)
    Path(loader.store.layout.version).write_text(f"{VERSION + 1}\n")
    fresh = ImageStore(loader.store.layout.root)
    for use in (lambda: fresh.lookup("demo:1"), fresh.images, fresh.collect, lambda: fresh.remove("demo:1")):
        with pytest.raises(
            ImageError, match=f"has the format '{VERSION + 1}', and this podlite knows format {VERSION}"
        ):
            use()
    with pytest.raises(ImageError, match="a newer podlite made it"):
        load_images(fresh, str(loader.directory / "images.tar"))


def test_a_damaged_index_is_said_to_be(loader: Loader) -> None:
    loader.load(ONE)
    Path(loader.store.layout.index).write_text("{")
    with pytest.raises(ImageError, match=r"index\.json, is damaged"):
        loader.store.lookup("demo:1")


def test_a_record_that_is_missing_is_said_to_be_and_can_be_repaired(loader: Loader) -> None:
    loader.load(ONE)
    os.unlink(f"{loader.store.layout.images}/{ONE.id.removeprefix('sha256:')}.json")
    with pytest.raises(ImageError, match=r"is damaged: the record of image .* is missing") as caught:
        loader.store.lookup("demo:1")
    assert "podlite image rm" in caught.value.hint
    loader.load(ONE)
    assert loader.record("demo:1").id == ONE.id


def test_nothing_is_collected_while_a_record_cannot_be_read(loader: Loader, capfd: pytest.CaptureFixture[str]) -> None:
    loader.load(ONE, TWO)
    Path(loader.store.layout.images, f"{ONE.id.removeprefix('sha256:')}.json").write_text("{")
    assert loader.store.remove("demo:2")
    assert len(loader.layers()) == 3
    assert "no layers are collected" in capfd.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    point = tmp_path / "small disk"
    point.mkdir()
    mount("small", str(point), "tmpfs", 0, "size=400k,mode=700")
    yield point
    umount2(str(point), MNT_DETACH)


def test_a_full_disk_is_named_and_nothing_is_left(small_disk: Path, tmp_path: Path) -> None:
    store = ImageStore(str(small_disk / "images"))
    load_images(store, str(docker_archive(tmp_path / "one.tar", [ONE])))
    big = docker_archive(tmp_path / "big.tar", [TestImage("big:1", [{"a": "a"}, {"big": os.urandom(1_000_000)}])])
    with pytest.raises(
        ImageError, match=r"small disk \(tmpfs on small\) is full; podlite was unpacking layer"
    ) as caught:
        load_images(store, str(big))
    assert "podlite image rm" in caught.value.hint
    assert [image.record.id for image in store.images()] == [ONE.id]
    store.collect()
    assert leftovers(store) == []
    # A compressed archive fills it before any layer does.
    packed = docker_archive(
        tmp_path / "big.tgz", [TestImage("big:1", [{"big": os.urandom(1_000_000)}])], compression="gzip"
    )
    with pytest.raises(ImageError, match=r"is full; podlite was decompressing .*big\.tgz"):
        load_images(store, str(packed))
    assert store.remove("demo:1")
    assert leftovers(store) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ImageStore(str(tmp_path / "file" / "images"))
    with pytest.raises(ImageError, match=r"file/images failed: Not a directory"):
        load_images(store, str(docker_archive(tmp_path / "one.tar", [ONE])))


def test_a_lock_that_somebody_holds_is_waited_for(loader: Loader) -> None:
    import threading

    loader.load(ONE)
    done = threading.Event()

    def remove() -> None:
        loader.store.remove("demo:1")
        done.set()

    thread = threading.Thread(target=remove)
    with FileLock(loader.store.layout.lock):
        thread.start()
        # Reading needs no lock.
        assert loader.record("demo:1").id == ONE.id
        assert not done.is_set()
    thread.join(timeout=30)
    assert done.is_set()


def test_trees_with_mounts_in_them_are_not_entered(tmp_path: Path) -> None:
    """A bind of something precious inside a tree that is to go, even on the same file system."""
    precious, tree = tmp_path / "precious", tmp_path / "tree" / "below"
    precious.mkdir()
    (precious / "data").write_text("data")
    tree.mkdir(parents=True)
    mount(str(precious), str(tree), None, 0x1000)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"openat2") as caught:
            remove_tree(fd, "tree")
        assert caught.value.errno == errno.EXDEV
    finally:
        umount2(str(tree), MNT_DETACH)
        os.close(fd)
    assert (precious / "data").read_text() == "data"


def test_links_in_an_image_lead_nowhere_outside(loader: Loader) -> None:
    (loader.directory / "secret").write_text("root:x:0:0::/outside:/bin/sh\n")
    from podlite.runtime.image.merged import MergedTree

    loader.load(TestImage("demo:1", [{"etc/passwd": Symlink(str(loader.directory / "secret"))}]))
    with MergedTree(describe_rootfs(loader.store, loader.record("demo:1")).lower) as tree:
        assert tree.read("/etc/passwd", limit=1000) is None
