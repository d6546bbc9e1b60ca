"""The embedded image on this machine, seen from a real mount of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from podlite.runtime.image import embedded
from podlite.runtime.image.rootfs import RootfsDescription, describe_rootfs
from podlite.runtime.image.store import EMBEDDED_NAME, ImageStore
from tests.support.image_worker import leftovers
from tests.support.rootfs import run_in_rootfs, walk_rootfs

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


def rootfs_of(store: ImageStore) -> RootfsDescription:
    record = store.lookup(EMBEDDED_NAME)
    assert record is not None
    return describe_rootfs(store, record)


@pytest.mark.parametrize(
    ("argv", "begins"),
    [
        (["/bin/sh", "-c", "echo $((6*7))"], "42\n"),
        # awk and its like are links through /etc/alternatives.
        (["awk", "BEGIN { print 6*7 }"], "42\n"),
        (["python3", "-c", "import ssl, ctypes; print(6*7)"], "42\n"),
        (["getent", "passwd", "root"], f"root:x:0:0::{os.path.expanduser('~root')}:"),
        (["getent", "services", "http"], "http  "),
        (["id", "-un"], "root\n"),
        (["env", "ls", "/tmp", "/proc", "/home", "/run/lock"], "/home:\n\n/proc:\n\n/run/lock:\n\n/tmp:\n"),
    ],
    ids=["sh", "awk", "python3", "getent passwd", "getent services", "id", "env"],
)
def test_programs_run(store: ImageStore, tmp_path: Path, argv: list[str], begins: str) -> None:
    result = run_in_rootfs(rootfs_of(store), argv, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(begins)


def test_certificates_come_along(store: ImageStore, tmp_path: Path) -> None:
    if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
        pytest.skip("this machine has no /etc/ssl/certs/ca-certificates.crt")
    code = (
        "import ssl; context = ssl.create_default_context(cafile='/etc/ssl/certs/ca-certificates.crt');"
        "print(len(context.get_ca_certs()) > 0)"
    )
    result = run_in_rootfs(rootfs_of(store), ["python3", "-c", code], tmp_path / "run")
    assert result.stdout == "True\n", result.stderr


def test_usr_is_read_only_and_the_rest_is_the_containers(store: ImageStore, tmp_path: Path) -> None:
    script = "touch /usr/x; touch /etc/x /tmp/x /root/x && echo made"
    result = run_in_rootfs(rootfs_of(store), ["/bin/sh", "-c", script], tmp_path / "run")
    assert "Read-only file system" in result.stderr
    assert result.stdout == "made\n"
    assert not os.path.exists("/etc/x")


def test_nothing_secret_can_be_reached(store: ImageStore, tmp_path: Path) -> None:
    """Everything outside the binds is listed and read; of the binds, /usr is what every user of the host may read."""
    rootfs = rootfs_of(store)
    seen = walk_rootfs(rootfs, tmp_path / "walk")
    names = set(seen)
    for secret in (
        "etc/shadow",
        "etc/shadow-",
        "etc/gshadow",
        "etc/ssh",
        "etc/ssl/private",
        "etc/machine-id",
        "etc/sudoers",
        "etc/krb5.keytab",
        "etc/environment",
        "root/.ssh",
        "root/.bash_history",
        "var/lib/dbus/machine-id",
        "var/lib/podlite",
    ):
        assert secret not in names
    assert not {
        name for name in names if name.startswith(("root/", "home/", "tmp/", "var/lib/", "var/log/", "run/secrets"))
    }
    passwords = [line.split(":")[1] for line in seen["etc/passwd"].content.decode().splitlines()]
    passwords += [line.split(":")[1] for line in seen["etc/group"].content.decode().splitlines()]
    assert set(passwords) == {"x"}
    for name, entry in seen.items():
        assert b"PRIVATE KEY" not in entry.content, name
        if entry.kind == "file" and entry.content:
            # Copied byte for byte from what everybody may read.
            assert name in ("etc/passwd", "etc/group") or os.stat(f"/{name}").st_mode & 0o004, name
    assert [container for _, container in rootfs.binds] == [
        f"/{name}" for name in embedded.HOST_DIRECTORIES if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")
    ]
    assert "/" not in rootfs.lower


def test_every_mount_point_is_there(store: ImageStore, tmp_path: Path) -> None:
    seen = walk_rootfs(rootfs_of(store), tmp_path / "walk")
    for name in ("proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "home", "mnt", "srv", "opt"):
        assert seen[name].kind == "dir"
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
        assert (seen[name].kind, seen[name].size) == ("file", 0)
    assert {seen[name].mode for name in ("tmp", "var/tmp", "run/lock")} == {0o1777}


def test_it_is_made_once(store: ImageStore) -> None:
    first = store.lookup(EMBEDDED_NAME)
    assert first is not None
    inode = os.stat(store.layout.layer(first.layers[0])).st_ino
    assert store.lookup(EMBEDDED_NAME) == first
    assert os.stat(store.layout.layer(first.layers[0])).st_ino == inode
    assert store.lookup(first.id) == first
    assert leftovers(store) == []


def test_a_changed_host_is_noticed_and_running_containers_keep_theirs(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.acquire(EMBEDDED_NAME, "container")
    assert old is not None
    real = embedded.host_fingerprint()
    monkeypatch.setattr(embedded, "host_fingerprint", lambda: f"{real} changed")
    new = store.lookup(EMBEDDED_NAME)
    assert new is not None
    assert new.id != old.id
    assert [image.record.id for image in store.images()] == [new.id]
    assert os.path.isdir(store.layout.layer(old.layers[0]))
    store.release("container")
    assert not os.path.isdir(store.layout.layer(old.layers[0]))
    assert leftovers(store) == []


def test_the_fingerprint_changes_with_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "passwd"
    monkeypatch.setattr(embedded, "_SOURCES", (str(source), str(tmp_path / "alternatives")))
    seen = [embedded.host_fingerprint()]
    source.write_text("root")
    seen.append(embedded.host_fingerprint())
    source.write_text("root and more")
    seen.append(embedded.host_fingerprint())
    (tmp_path / "alternatives").symlink_to("a")
    seen.append(embedded.host_fingerprint())
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").rename(tmp_path / "alternatives")
    seen.append(embedded.host_fingerprint())
    assert len(set(seen)) == len(seen)


def test_it_comes_back_after_removal(store: ImageStore) -> None:
    record = store.lookup(EMBEDDED_NAME)
    assert store.remove(EMBEDDED_NAME)
    assert store.images() == []
    assert store.lookup(EMBEDDED_NAME) == record


def test_many_may_need_it_first(tmp_path: Path) -> None:
    code = (
        "import sys; from podlite.runtime.image.store import ImageStore, EMBEDDED_NAME;"
        "store = ImageStore(sys.argv[1]); record = store.acquire(EMBEDDED_NAME, sys.argv[2]); print(record.id)"
    )
    root = Path(__file__).resolve().parents[3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "store"), f"c{number}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for number in range(6)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    store = ImageStore(str(tmp_path / "store"))
    assert ids == {image.record.id for image in store.images()}
    assert len(store.holders()) == 6
    for holder in store.holders():
        store.release(holder)
    assert leftovers(store) == []
