"""The embedded image's skeleton, made from a host that the test lays out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from podlite.runtime.image.embedded import host_fingerprint
from podlite.runtime.image.skeleton import host_directories, make_skeleton


def test_a_merged_host_is_one_bind_and_links(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    for name, target in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "/usr/lib64")):
        (tmp_path / name).symlink_to(target)
    for name in ("root", "home", "data"):
        (tmp_path / name).mkdir()
    links, binds = host_directories(str(tmp_path))
    assert links == [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "/usr/lib64"), ("sbin", "usr/sbin")]
    assert binds == [(f"{tmp_path}/usr", "/usr")]


def test_an_unmerged_host_is_a_bind_each(tmp_path: Path) -> None:
    for name in ("usr", "bin", "sbin", "lib", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib64").symlink_to("../data/lib64")
    (tmp_path / "libexec").write_text("no directory")
    links, binds = host_directories(str(tmp_path))
    assert links == []
    assert [container for _, container in binds] == ["/bin", "/lib", "/sbin", "/usr"]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:$6$hash:0:0:Root,Room 1:/root:/bin/sh\nbad line\n+nis::::::\n#c:x:1:1:::\n")
    (etc / "group").write_text("root:$6$hash:0:\nwheel:x:10:root\n")
    (etc / "nsswitch.conf").write_text("passwd: files\n")
    (etc / "shadow").write_text("root:$6$hash:1:::::\n")
    (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (etc / "alternatives").mkdir()
    (etc / "alternatives" / "awk").symlink_to("/usr/bin/mawk")
    (etc / "alternatives" / "odd").symlink_to("/opt/vendor/odd")
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    (etc / "ssl" / "certs").mkdir(parents=True)
    (etc / "ssl" / "private").mkdir()
    (etc / "ssl" / "private" / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    (etc / "ssl" / "certs" / "ca-certificates.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (etc / "ssl" / "certs" / "both.pem").write_text("CERTIFICATE\n-----BEGIN RSA PRIVATE KEY-----\n")
    (etc / "ssl" / "certs" / "hidden.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (etc / "ssl" / "certs" / "hidden.pem").chmod(0o600)
    (etc / "ssl" / "certs" / "key.pem").symlink_to("../private/key.pem")
    (etc / "ssl" / "certs" / "abc.0").symlink_to("ca-certificates.crt")
    os.mkfifo(etc / "ssl" / "certs" / "fifo")
    # Where the trust store is kept elsewhere a copy must come along, or the link would dangle.
    (tmp_path / "elsewhere").write_text("services")
    (etc / "services").symlink_to(tmp_path / "elsewhere")
    return etc


def test_the_skeleton_has_what_programs_need_and_nothing_secret(tmp_path: Path, etc: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    record = make_skeleton(str(root), [("bin", "usr/bin")], ["/usr", "/lib"], etc=str(etc))
    made = {
        os.path.relpath(os.path.join(parent, name), root)
        for parent, directories, files in os.walk(root)
        for name in (*directories, *files)
    }
    assert record.entries == len(made)
    assert {name for name in made if name.startswith("etc/")} == {
        "etc/alternatives",
        "etc/alternatives/awk",
        "etc/group",
        "etc/hostname",
        "etc/hosts",
        "etc/localtime",
        "etc/mtab",
        "etc/nsswitch.conf",
        "etc/passwd",
        "etc/resolv.conf",
        "etc/services",
        "etc/ssl",
        "etc/ssl/certs",
        "etc/ssl/certs/abc.0",
        "etc/ssl/certs/ca-certificates.crt",
    }
    assert (root / "etc" / "passwd").read_text() == "root:x:0:0::/root:/bin/sh\n"
    assert (root / "etc" / "group").read_text() == "root:x:0:\nwheel:x:10:root\n"
    assert (root / "etc" / "services").read_text() == "services"
    assert not (root / "etc" / "services").is_symlink()
    assert os.readlink(root / "etc" / "ssl" / "certs" / "abc.0") == "ca-certificates.crt"
    assert os.readlink(root / "bin") == "usr/bin"
    for path in ("proc", "sys", "dev", "run", "root", "home", "mnt", "usr", "lib", "var/log"):
        assert os.listdir(root / path) == ([] if path != "run" else ["lock"])
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "var" / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "root").stat().st_mode) == 0o700
    for name in ("hosts", "hostname", "resolv.conf"):
        assert (root / "etc" / name).read_bytes() == b""


def test_a_host_with_an_empty_etc_has_a_skeleton_too(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "root").mkdir()
    make_skeleton(str(tmp_path / "root"), [], ["/usr"], etc=str(tmp_path / "etc"))
    assert (tmp_path / "root" / "etc" / "passwd").read_bytes() == b""


def test_the_fingerprint_says_the_same_as_long_as_nothing_changes() -> None:
    assert host_fingerprint() == host_fingerprint()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in host_fingerprint()
