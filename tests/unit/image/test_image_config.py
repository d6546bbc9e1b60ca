"""Image configurations (OCI image-spec, config.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.cri.errors import ImageError
from podlite.runtime.image.config import ImageConfig, image_user, parse_image_config

DIFF_ID = "sha256:" + "c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1"[:64]

# The example of config.md, shortened.
SPECIFICATION_EXAMPLE = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa P. Hacker <alyspdev@example.com>",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "alice",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FOO=oci_is_a"],
        "Entrypoint": ["/bin/my-app-binary"],
        "Cmd": ["--foreground", "--config", "/etc/my-app.d/default.cfg"],
        "Volumes": {"/var/job-result-data": {}, "/var/log/my-app-logs": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"com.example.project.git.url": "https://example.com/project.git"},
    },
    "rootfs": {"diff_ids": [DIFF_ID, DIFF_ID], "type": "layers"},
    "history": [{"created": "2015-10-31T22:22:54.690851953Z", "created_by": "/bin/sh -c #(nop) ADD file:a3bc in /"}],
}


def parse(document: Any) -> tuple[ImageConfig, list[str]]:
    return parse_image_config(json.dumps(document).encode())


def test_the_specifications_example_is_understood() -> None:
    config, diff_ids = parse(SPECIFICATION_EXAMPLE)
    assert config == ImageConfig(
        entrypoint=["/bin/my-app-binary"],
        cmd=["--foreground", "--config", "/etc/my-app.d/default.cfg"],
        env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FOO=oci_is_a"],
        working_dir="/home/alice",
        user="alice",
        volumes=["/var/job-result-data", "/var/log/my-app-logs"],
        labels={"com.example.project.git.url": "https://example.com/project.git"},
        exposed_ports=["8080/tcp"],
        architecture="amd64",
        os="linux",
        created="2015-10-31T22:22:56.015925234Z",
    )
    assert diff_ids == [DIFF_ID, DIFF_ID]


@pytest.mark.parametrize("config", [None, {}, {"Cmd": None, "Env": None, "Volumes": None, "Labels": None}])
def test_what_is_null_or_absent_is_empty(config: object) -> None:
    # Docker writes null for what is not set.
    parsed, diff_ids = parse({"config": config, "rootfs": {"type": "layers", "diff_ids": None}})
    assert parsed == ImageConfig()
    assert diff_ids == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "cannot be read"),
        ({}, "rootfs.type"),
        ({"rootfs": {"type": "trees"}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:1"]}}, "bad diffID, 'sha256:1'"),
        ({"rootfs": {"type": "layers", "diff_ids": ["../../etc"]}}, "bad diffID"),
        ({"config": {"Cmd": "sh"}, "rootfs": {"type": "layers"}}, "cannot be read: .*config.Cmd"),
        ({"config": {"Env": ["A=\0"]}, "rootfs": {"type": "layers"}}, "zero byte"),
        ({"config": {"Entrypoint": ["a\0"]}, "rootfs": {"type": "layers"}}, "zero byte"),
    ],
)
def test_a_bad_configuration_gets_a_sentence(document: object, message: str) -> None:
    with pytest.raises(ImageError, match=f"the image's configuration .*{message}"):
        parse(document)


@given(st.binary(max_size=200))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(ImageError):
        parse_image_config(raw)


@pytest.mark.parametrize(
    ("user", "uid", "name"),
    # containerd: internal/cri/server/images/image_status_test.go, TestGetUserFromImage
    [("", None, ""), ("0", 0, ""), ("0:1", 0, ""), ("test", None, "test"), ("test:test", None, "test")],
)
def test_cri_tells_a_uid_or_a_name(user: str, uid: int | None, name: str) -> None:
    assert image_user(user) == (uid, name)
