"""Where a registry is reached. Source: containerd docs/hosts.md and core/remotes/docker/config/hosts_test.go."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlite.cri.errors import ImageError
from podlite.runtime.image.registry.hosts import Endpoint, find_endpoints, is_loopback, split_port


def write(directory: Path, registry: str, text: str) -> tuple[str, ...]:
    (directory / registry).mkdir(parents=True)
    (directory / registry / "hosts.toml").write_text(text)
    return (str(directory),)


def only(registry: str, *roots: str) -> Endpoint:
    (found,) = find_endpoints(registry, roots)
    return found


def test_without_configuration_the_registry_itself_by_https() -> None:
    assert only("quay.io") == Endpoint(scheme="https", host="quay.io")
    assert only("quay.io").url == "https://quay.io/v2"
    assert only("docker.io") == Endpoint(scheme="https", host="registry-1.docker.io")


@pytest.mark.parametrize(
    ("registry", "scheme", "fallback"),
    [
        ("localhost", "https", False),
        ("localhost:443", "https", False),
        ("localhost:80", "http", False),
        ("localhost:5000", "https", True),
        ("127.0.0.1:5000", "https", True),
        ("127.1.2.3:5000", "https", True),
        ("[::1]:5000", "https", True),
        ("10.0.0.1:5000", "https", False),
        ("registry.example:80", "https", False),
        ("localhost.example:5000", "https", False),
    ],
)
def test_only_loopback_may_be_plain_without_being_configured(registry: str, scheme: str, fallback: bool) -> None:
    found = only(registry)
    assert (found.scheme, found.plain_fallback, found.skip_verify) == (scheme, fallback, fallback)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:1", True),
        ("127.0.0.1", True),
        ("[::1]:5000", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("localhost.example", False),
        ("example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_ports() -> None:
    assert split_port("a:1") == ("a", "1")
    assert split_port("a") == ("a", "")
    assert split_port("[::1]:1") == ("::1", "1")
    assert split_port("[::1]") == ("::1", "")
    assert split_port("::1") == ("::1", "")


def test_mirrors_come_in_their_order_and_the_server_last(tmp_path: Path) -> None:
    roots = write(
        tmp_path,
        "docker.io",
        """
        server = "https://registry-1.docker.io"
        [host."https://mirror.example:5000"]
          capabilities = ["pull"]
          dial_timeout = "1m30.5s"
          [host."https://mirror.example:5000".header]
            x-a = "1"
            x-b = ["2", "3"]
        [host."http://plain.example/path"]
        [host."backup.example/prefix/v2"]
        [host."https://other.example/whole/api"]
          override_path = true
        """,
    )
    first, second, third, fourth, server = find_endpoints("docker.io", roots)
    assert first == Endpoint(
        scheme="https",
        host="mirror.example:5000",
        resolves=False,
        header=(("x-a", "1"), ("x-b", "2"), ("x-b", "3")),
        dial_timeout=90.5,
        namespace="docker.io",
    )
    assert (second.url, second.namespace) == ("http://plain.example/path/v2", "docker.io")
    assert third.url == "https://backup.example/prefix/v2"
    assert fourth.url == "https://other.example/whole/api"
    # docker.io's own host is no mirror of it.
    assert (server.url, server.namespace) == ("https://registry-1.docker.io/v2", "")


def test_certificates_are_relative_to_the_file(tmp_path: Path) -> None:
    roots = write(
        tmp_path,
        "r.example",
        """
        ca = "ca.pem"
        client = [["a.cert", "/keys/a.key"], "both.pem"]
        skip_verify = true
        """,
    )
    found = only("r.example", *roots)
    directory = f"{tmp_path}/r.example"
    assert found.ca == (f"{directory}/ca.pem",)
    assert found.client == (
        (f"{directory}/a.cert", "/keys/a.key"),
        (f"{directory}/both.pem", f"{directory}/both.pem"),
    )
    assert found.skip_verify
    assert found.url == "https://r.example/v2"


def test_dockers_certificate_files(tmp_path: Path) -> None:
    directory = tmp_path / "r.example:5000"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "lone.cert", "readme"):
        (directory / name).touch()
    found = only("r.example:5000", str(tmp_path))
    assert found.ca == (f"{directory}/ca.crt",)
    assert found.client == (
        (f"{directory}/client.cert", f"{directory}/client.key"),
        (f"{directory}/lone.cert", f"{directory}/lone.cert"),
    )


def test_the_first_directory_that_there_is_counts(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    roots = (*write(other, "r.example", 'server = "https://other"'), *write(tmp_path / "x", "y", ""))
    write(other, "_default", 'server = "https://default"')
    assert only("r.example", str(own), *roots).host == "other"
    assert only("s.example", str(own), *roots).host == "default"
    write(own, "r.example", 'server = "https://own"')
    assert only("r.example", str(own), *roots).host == "own"
    write(own, "p.example_5000_", 'server = "https://port"')
    assert only("p.example:5000", str(own), *roots).host == "port"


def test_a_default_file_without_a_server_leads_to_each_registry(tmp_path: Path) -> None:
    roots = write(tmp_path, "_default", '[host."https://mirror.example"]')
    mirror, server = find_endpoints("r.example", roots)
    assert (mirror.host, mirror.namespace) == ("mirror.example", "r.example")
    assert (server.host, server.namespace) == ("r.example", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server = ", "is not valid TOML"),
        ("server = 7", "server is not a string"),
        ("host = 7", "host is not a table"),
        ('[host."https://u:p@x"]', "is not the URL of a host"),
        ('[host."https:///x"]', "is not the URL of a host"),
        ('capabilities = ["fly"]', "capabilities has unknown ones: fly"),
        ('[host."https://x"]\nca = 7', r'host\."https://x"\.ca is neither a string nor a list'),
        ('client = [["a", "b", "c"]]', "neither a file nor a pair"),
        ('skip_verify = "yes"', "skip_verify is neither true nor false"),
        ('server = "x"\noverride_path = 1', "override_path is neither true nor false"),
        ('dial_timeout = "soon"', "dial_timeout is no duration"),
        ("[header]\nx = 7", r"header\.x is neither a string"),
    ],
)
def test_what_is_wrong_is_named_and_not_passed_over(tmp_path: Path, text: str, message: str) -> None:
    roots = write(tmp_path, "r.example", text)
    with pytest.raises(ImageError, match=message) as caught:
        find_endpoints("r.example", roots)
    assert f"{tmp_path}/r.example/hosts.toml" in caught.value.message


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.example" / "hosts.toml").mkdir(parents=True)
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        find_endpoints("r.example", (str(tmp_path),))
