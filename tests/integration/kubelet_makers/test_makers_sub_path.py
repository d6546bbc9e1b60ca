"""subPath: what is found, what is made, and the ways out of a volume that were once found.

CVE-2017-1002101 (a link to the host), CVE-2021-25741 (a link swapped in between the check and the use), and
kubernetes#61080 and its successors; layout and modes as in pkg/volume/util/subpath.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podlite.api.container import VolumeMount
from podlite.api.volumes import EmptyDirVolumeSource, Volume
from podlite.kubelet.types import ContainerConfigError, KubeletConfig
from podlite.kubelet.volumes import subpath
from podlite.kubelet.volumes.mounts import make_mounts
from podlite.kubelet.volumes.subpath import SubPathError, prepare
from podlite.linux.syscalls import MNT_DETACH, umount2
from tests.integration.kubelet_makers.makers import make_pod, mounts_below, set_up, tear_down

EMPTY = Volume(name="v", empty_dir=EmptyDirVolumeSource())


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_text("the host's")
    return made


@pytest.fixture
def pin(tmp_path: Path, volume: Path) -> Iterator[Callable[[str], Path]]:
    """Prepares a subPath of the volume; all of them are gone afterwards."""
    directory = tmp_path / "volume-subpaths"
    yield lambda sub_path: Path(prepare(str(volume), sub_path, f"{directory}/v/c/0"))
    subpath.clean(str(directory))
    left = mounts_below(str(tmp_path))
    for path in left:
        umount2(path, MNT_DETACH)
    assert left == []
    assert not directory.exists()


def test_a_directory(pin: Callable[[str], Path], volume: Path) -> None:
    (volume / "a/b").mkdir(parents=True)
    (volume / "a/b/file").write_text("x")
    for spelling in ("a/b", "a//b/", "./a/./b"):
        found = pin(spelling)
        assert (found / "file").read_text() == "x"
        assert os.path.samefile(found, volume / "a/b")


def test_a_file_a_socket_and_a_pipe(pin: Callable[[str], Path], volume: Path) -> None:
    (volume / "file").write_text("x")
    os.mkfifo(volume / "pipe")
    assert pin("file").read_text() == "x"
    assert stat.S_ISFIFO(os.stat(pin("pipe")).st_mode)
    # From a file to a directory and back, as the volume changes between two starts of the container.
    (volume / "file").unlink()
    (volume / "file").mkdir()
    assert pin("file").is_dir()


def test_what_is_missing_is_made_like_the_volume(pin: Callable[[str], Path], volume: Path) -> None:
    os.chown(volume, -1, 54321)
    os.chmod(volume, 0o2775)
    (volume / "a").mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        found = pin("a/b/c")
    finally:
        os.umask(before)
    assert os.path.samefile(found, volume / "a/b/c")
    for made in ("a/b", "a/b/c"):
        assert stat.S_IMODE((volume / made).stat().st_mode) == 0o2775
    assert stat.S_IMODE((volume / "a").stat().st_mode) & 0o777 == 0o700
    assert (volume / "a/b/c").stat().st_gid == (volume / "a").stat().st_gid


def test_links_within_the_volume_are_followed(pin: Callable[[str], Path], volume: Path) -> None:
    (volume / "real/deep").mkdir(parents=True)
    (volume / "link").symlink_to("real")
    (volume / "real/up").symlink_to("../real/deep")
    assert os.path.samefile(pin("link/deep"), volume / "real/deep")
    assert os.path.samefile(pin("link/up"), volume / "real/deep")
    # As the atomic writer's.
    (volume / "..data").symlink_to("real")
    (volume / "key").symlink_to("..data/deep")
    assert os.path.samefile(pin("key"), volume / "real/deep")
    assert os.path.samefile(pin("link/new"), volume / "real/new")


@pytest.mark.parametrize(
    "link",
    ["/", "/etc", "{outside}", "..", "../outside", "../../../../../../etc", "a/../../outside", "/proc/self/root/etc",
     "/proc/self/cwd", "/proc/self/fd/0"],
)  # fmt: skip
def test_links_out_of_the_volume_are_refused(
    pin: Callable[[str], Path], volume: Path, outside: Path, link: str
) -> None:
    (volume / "a").mkdir()
    (volume / "link").symlink_to(link.format(outside=outside))
    for path in ("link", "link/secret", "link/made", "a/../link"):
        with pytest.raises(SubPathError):
            pin(path)
    assert os.listdir(outside) == ["secret"]
    # Nor as the last part of a longer way.
    (volume / "a/link").symlink_to("../link")
    with pytest.raises(SubPathError):
        pin("a/link")


def test_magic_links_are_refused(pin: Callable[[str], Path], volume: Path) -> None:
    with pytest.raises(SubPathError):
        Path(prepare("/proc", "self/root", str(volume.parent / "target")))
    with pytest.raises(SubPathError):
        Path(prepare("/proc", "self/fd/0", str(volume.parent / "target")))
    assert mounts_below(str(volume.parent)) == []


def test_a_dangling_link_is_not_made(pin: Callable[[str], Path], volume: Path, outside: Path) -> None:
    for target in (str(outside / "new"), "missing"):
        (volume / "link").symlink_to(target)
        with pytest.raises(SubPathError) as failure:
            pin("link/below")
        (volume / "link").unlink()
    assert failure.value.creating
    assert os.listdir(outside) == ["secret"]
    assert os.listdir(volume) == []


def test_a_file_on_the_way(pin: Callable[[str], Path], volume: Path) -> None:
    (volume / "file").touch()
    with pytest.raises(SubPathError):
        pin("file/below")


def test_what_is_pinned_stays_whatever_becomes_of_the_name(
    pin: Callable[[str], Path], volume: Path, outside: Path
) -> None:
    (volume / "d").mkdir()
    (volume / "d/own").touch()
    found = pin("d")
    (volume / "d").rename(volume / "moved")
    (volume / "d").symlink_to(outside)
    assert os.listdir(found) == ["own"]
    with pytest.raises(SubPathError):
        pin("d")
    # Another instance of the container gets what is there by then.
    (volume / "d").unlink()
    (volume / "d").mkdir()
    assert os.listdir(pin("d")) == []
    assert len(mounts_below(str(volume.parent))) == 1


def test_swapping_as_fast_as_possible_never_shows_the_host(
    pin: Callable[[str], Path], volume: Path, outside: Path
) -> None:
    """The attack of CVE-2021-25741: a directory and a link change places all the time."""
    (volume / "real").mkdir()
    (volume / "real/secret").write_text("the pod's")
    (volume / "victim").symlink_to("real")
    stop = threading.Event()

    def swap() -> None:
        spare = volume / "spare"
        while not stop.is_set():
            for target in ("real", str(outside), "../outside", "real"):
                os.symlink(target, spare)
                os.rename(spare, volume / "victim")

    thread = threading.Thread(target=swap)
    thread.start()
    refused = shown = 0
    try:
        while refused < 50 or shown < 50:
            try:
                found = pin("victim")
            except SubPathError:
                refused += 1
                continue
            shown += 1
            assert (found / "secret").read_text() == "the pod's"
            assert not os.path.samefile(found, outside)
    finally:
        stop.set()
        thread.join()


def test_directories_made_while_links_are_swapped_in_never_lie_outside(
    pin: Callable[[str], Path], volume: Path, outside: Path
) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for step in (
                lambda: os.symlink(outside, volume / "a"),
                lambda: os.unlink(volume / "a"),
                lambda: os.rename(volume / "a", volume / f"old-{os.urandom(4).hex()}"),
            ):
                try:
                    step()
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            try:
                pin("a/b/c")
            except SubPathError:
                continue
    finally:
        stop.set()
        thread.join()
    assert os.listdir(outside) == ["secret"]


# --- through the makers -----------------------------------------------------------------------


def test_mounts_with_sub_paths(config: KubeletConfig) -> None:
    pod = make_pod(
        EMPTY,
        mounts=[
            VolumeMount(name="v", mount_path="/a", sub_path="one/two"),
            VolumeMount(name="v", mount_path="/b", sub_path_expr="logs/$(POD)"),
            VolumeMount(name="v", mount_path="/c"),
        ],
    )
    paths = set_up(pod, config)

    def mounts() -> list[str]:
        made = make_mounts(
            pod,
            pod.spec.containers[0],
            config,
            volumes=paths,
            image_volumes={},
            environment={"POD": "p"},
            recursive_read_only=True,
        )
        return [mount.host_path for mount in made]

    base = f"{config.state_dir}/pods/u-1/volume-subpaths/v/c"
    assert mounts() == [f"{base}/0", f"{base}/1", paths["v"]]
    assert os.path.samefile(f"{base}/0", f"{paths['v']}/one/two")
    assert os.path.samefile(f"{base}/1", f"{paths['v']}/logs/p")
    # The next instance of the container finds them as they are.
    before = mounts_below(config.state_dir)
    assert mounts() == [f"{base}/0", f"{base}/1", paths["v"]]
    assert mounts_below(config.state_dir) == before
    # Ended by somebody who knows only the pod's UID.
    tear_down(config)
    assert mounts_below(config.state_dir) == []
    assert os.listdir(f"{config.state_dir}/pods") == []


@pytest.mark.parametrize(
    ("link", "text"), [("/etc", "failed to prepare subPath"), ("missing", "failed to create subPath directory")]
)
def test_the_pod_is_told_no_more_than_that_it_did_not_work(config: KubeletConfig, link: str, text: str) -> None:
    pod = make_pod(EMPTY, mounts=[VolumeMount(name="v", mount_path="/a", sub_path="link")])
    paths = set_up(pod, config)
    os.symlink(link, f"{paths['v']}/link")
    with pytest.raises(ContainerConfigError) as failure:
        make_mounts(
            pod,
            pod.spec.containers[0],
            config,
            volumes=paths,
            image_volumes={},
            environment={},
            recursive_read_only=True,
        )
    assert failure.value.message == f'{text} for volumeMount "v" of container "c"'
    tear_down(config)
