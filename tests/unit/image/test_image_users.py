"""Users from CRI's security context and the image, with the image's /etc/passwd and /etc/group.

The expectations are CRI's (cri-api, api.proto: SecurityContext) and containerd's (pkg/oci/spec_opts_linux_test.go).
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.cri.errors import CRIError
from podlite.runtime.image.rootfs import MountedRoot, ResolvedUser, resolve_user

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh

  daemon:x:1:2:daemon:/usr/sbin:/usr/sbin/nologin
alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh
twice:x:1000:9:second entry:/other:/bin/sh
1234:x:77:77::/:/bin/sh
nohome:x:5:5::relative:/bin/sh
short:x:6:6
broken:x:seven:7::/:
"""
GROUP = """\
root:x:0:
wheel:x:10:root,alice
audio:x:63:alice
alice:x:1001:alice
staff:x:50:bob,alice-too
numbers:x:11:1234
"""


class Files:
    def __init__(self, **files: str | OSError) -> None:
        self._files = {f"/etc/{name}": content for name, content in files.items()}

    def read(self, path: str, *, limit: int) -> bytes | None:
        content = self._files.get(path)
        if isinstance(content, OSError):
            raise content
        return None if content is None else content.encode()


FULL = Files(passwd=PASSWD, group=GROUP)
NONE = Files()


@pytest.mark.parametrize(
    ("image_user", "expected"),
    [
        ("", ResolvedUser(0, 0, [0, 10], "/root")),
        ("0", ResolvedUser(0, 0, [0, 10], "/root")),
        ("root", ResolvedUser(0, 0, [0, 10], "/root")),
        ("alice", ResolvedUser(1000, 1001, [10, 63, 1001], "/home/alice")),
        ("1000", ResolvedUser(1000, 1001, [10, 63, 1001], "/home/alice")),
        ("daemon", ResolvedUser(1, 2, [2], "/usr/sbin")),
        ("alice:audio", ResolvedUser(1000, 63, [10, 63], "/home/alice")),
        ("alice:7", ResolvedUser(1000, 7, [7, 10, 63], "/home/alice")),
        ("1000:1000", ResolvedUser(1000, 1000, [10, 63, 1000], "/home/alice")),
        ("4242", ResolvedUser(4242, 0, [0], "/")),
        ("4242:4343", ResolvedUser(4242, 4343, [4343], "/")),
        ("4242:audio", ResolvedUser(4242, 63, [63], "/")),
        # A number is a uid, even where a user has it as a name.
        ("1234", ResolvedUser(1234, 0, [0], "/")),
        ("nohome", ResolvedUser(5, 5, [5], "/")),
        ("short", ResolvedUser(6, 6, [6], "/")),
        (":63", ResolvedUser(0, 63, [10, 63], "/root")),
        ("alice:", ResolvedUser(1000, 0, [0, 10, 63], "/home/alice")),
    ],
)
def test_the_images_user(image_user: str, expected: ResolvedUser) -> None:
    assert resolve_user(FULL, image_user=image_user) == expected


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"run_as_user": 1000}, ResolvedUser(1000, 1001, [10, 63, 1001], "/home/alice")),
        # The image's group does not go with another user.
        ({"run_as_user": 4242, "image_user": "alice:audio"}, ResolvedUser(4242, 0, [0], "/")),
        ({"run_as_username": "alice"}, ResolvedUser(1000, 1001, [10, 63, 1001], "/home/alice")),
        ({"run_as_user": 1000, "run_as_group": 5}, ResolvedUser(1000, 5, [5, 10, 63], "/home/alice")),
        ({"run_as_user": 0, "run_as_group": 0}, ResolvedUser(0, 0, [0, 10], "/root")),
        ({"run_as_user": 4242, "supplemental_groups": [9, 8]}, ResolvedUser(4242, 0, [0, 8, 9], "/")),
        (
            {"run_as_user": 1000, "supplemental_groups": [9], "strict_groups": True},
            ResolvedUser(1000, 1001, [9, 1001], "/home/alice"),
        ),
    ],
)
def test_the_security_context_wins(context: dict[str, Any], expected: ResolvedUser) -> None:
    assert resolve_user(FULL, **context) == expected


@pytest.mark.parametrize("image_user", ["", "0", "1000", "1000:1000"])
def test_numbers_need_no_files(image_user: str) -> None:
    user = resolve_user(NONE, image_user=image_user)
    uid, _, gid = image_user.partition(":")
    assert user == ResolvedUser(int(uid or 0), int(gid or 0), [int(gid or 0)], "/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_user": "bob"}, "unable to find user bob: no matching entries in passwd file"),
        ({"image_user": "broken"}, "unable to find user broken: no matching entries in passwd file"),
        ({"run_as_username": "bob"}, "unable to find user bob: no matching entries in passwd file"),
        ({"image_user": "alice:bob"}, "unable to find group bob: no matching entries in group file"),
        ({"run_as_group": 5}, 'user group "5" is specified without user'),
        ({"image_user": "a:b:c"}, "invalid USER value 'a:b:c': it has more than one colon"),
        ({"image_user": "2147483648"}, "invalid USER value '2147483648': uid out of range"),
        ({"image_user": "-1"}, "invalid USER value '-1': uid out of range"),
        ({"image_user": "0:4294967296"}, "invalid USER value '0:4294967296': gid out of range"),
        ({"image_user": "9" * 5000}, f"invalid USER value {'9' * 5000!r}: uid out of range"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CRIError) as caught:
        resolve_user(FULL, **arguments)
    assert caught.value.message == message


def test_an_id_beyond_the_range_in_the_image_is_an_error() -> None:
    with pytest.raises(CRIError, match="/etc/passwd of the image has an id that is out of range"):
        resolve_user(Files(passwd="a:x:5:99999999999999999999999:::"), image_user="a")


def test_a_file_that_cannot_be_read_is_an_error_and_not_an_empty_one() -> None:
    failing = Files(passwd=OSError(errno.EFBIG, "the file has more than 8388608 bytes", "/etc/passwd"))
    with pytest.raises(CRIError, match="/etc/passwd of the image cannot be used: the file has more than"):
        resolve_user(failing, image_user="alice")


@given(st.text(max_size=20), st.text(max_size=200), st.text(max_size=200))
def test_any_files_and_users_resolve_or_are_refused(user: str, passwd: str, group: str) -> None:
    files = Files(passwd=passwd.encode("utf-8", "ignore").decode(), group=group.encode("utf-8", "ignore").decode())
    try:
        found = resolve_user(files, image_user=user)
    except CRIError as error:
        assert error.message
    else:
        assert found.gid in found.groups


def test_a_mounted_roots_files_are_resolved_inside_it(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("root:x:0:0::/outside:/bin/sh\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").symlink_to("/../../secret")
    (root / "secret").write_text("root:x:0:0::/inside:/bin/sh\n")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert resolve_user(MountedRoot(fd)).home == "/inside"
        (root / "etc" / "passwd").unlink()
        os.mkfifo(root / "etc" / "passwd")
        with pytest.raises(CRIError, match="is not a regular file"):
            resolve_user(MountedRoot(fd))
        (root / "etc" / "passwd").unlink()
        (root / "etc" / "passwd").write_bytes(b"x" * (9 << 20))
        with pytest.raises(CRIError, match="more than"):
            resolve_user(MountedRoot(fd))
        (root / "etc" / "passwd").unlink()
        assert resolve_user(MountedRoot(fd)).home == "/"
    finally:
        os.close(fd)
