"""The requests of HTTP probes, byte for byte, and what is made of answers.

Expected values: pkg/probe/http/request_test.go for hosts, ports and headers; RFC 9112 for messages; Go's net/http for
the texts of errors.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.api.container import Container, ContainerPort
from podlite.api.probes import HTTPGetAction, HTTPHeader
from podlite.kubelet.prober.http_request import (
    BadProbeError,
    Request,
    build,
    make_request,
    request_target,
    resolve_port,
)
from podlite.kubelet.prober.http_response import BadResponseError, EmptyResponseError, Response, dechunk

CONTAINER = Container(
    name="c", ports=[ContainerPort(name="web", container_port=8080), ContainerPort(name="admin", container_port=9000)]
)


def request(path: str = "/", headers: dict[str, str] | None = None, **action: object) -> Request:
    values: dict[str, object] = {"port": 80, "scheme": "HTTP", **action}
    given = HTTPGetAction(
        path=path,
        http_headers=[HTTPHeader(name=name, value=value) for name, value in (headers or {}).items()],
        **values,  # type: ignore[arg-type]
    )
    return make_request(given, CONTAINER, "10.85.0.2")


def lines(found: Request) -> list[str]:
    head, end = found.data.decode().split("\r\n\r\n")
    assert end == ""
    return head.split("\r\n")


def test_a_plain_request() -> None:
    found = request("/healthz")
    assert (found.host, found.port, found.tls) == ("10.85.0.2", 80, False)
    assert found.url == "http://10.85.0.2:80/healthz"
    assert lines(found) == [
        "GET /healthz HTTP/1.1",
        "Host: 10.85.0.2:80",
        "User-Agent: kube-probe/1.36",
        "Accept: */*",
        "Connection: close",
    ]


def test_scheme_host_and_named_port() -> None:
    found = request(scheme="HTTPS", host="example.test", port="web")
    assert (found.host, found.port, found.tls) == ("example.test", 8080, True)
    assert found.url == "https://example.test:8080/"
    assert "Host: example.test:8080" in lines(found)
    assert make_request(HTTPGetAction(port=80, path="/"), CONTAINER, "fd85::2").url == "http://[fd85::2]:80/"


def test_hooks_call_themselves_so() -> None:
    found = make_request(HTTPGetAction(port=80, path="/"), CONTAINER, "10.85.0.2", "lifecycle")
    assert "User-Agent: kube-lifecycle/1.36" in lines(found)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # A Host header changes what is asked for, not whom.
        ({"Host": "virtual.test"}, ["Host: virtual.test", "User-Agent: kube-probe/1.36", "Accept: */*"]),
        ({"host": "virtual.test"}, ["Host: virtual.test", "User-Agent: kube-probe/1.36", "Accept: */*"]),
        ({"User-Agent": "mine"}, ["Host: 10.85.0.2:80", "User-Agent: mine", "Accept: */*"]),
        # Empty ones are left out (request.go; Go's net/http for the agent).
        ({"User-Agent": ""}, ["Host: 10.85.0.2:80", "Accept: */*"]),
        ({"Accept": ""}, ["Host: 10.85.0.2:80", "User-Agent: kube-probe/1.36"]),
        ({"accept": "text/plain"}, ["Host: 10.85.0.2:80", "User-Agent: kube-probe/1.36", "Accept: text/plain"]),
        (
            {"x-one": "1", "A-two": "2"},
            ["Host: 10.85.0.2:80", "User-Agent: kube-probe/1.36", "A-Two: 2", "Accept: */*", "X-One: 1"],
        ),
    ],
)
def test_headers(headers: dict[str, str], expected: list[str]) -> None:
    assert lines(request(headers=headers))[1:-1] == expected


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X": "a\r\nEvil: b"}, 'invalid header field value for "X"'),
        ({"Host": "a\nb"}, 'invalid header field value for "Host"'),
        ({"X Y": "a"}, 'invalid header field name "X Y"'),
        ({"X": "a\x7f"}, 'invalid header field value for "X"'),
    ],
)
def test_headers_cannot_break_out_of_their_line(headers: dict[str, str], text: str) -> None:
    with pytest.raises(BadProbeError) as failure:
        request(headers=headers)
    assert str(failure.value) == f'Get "http://10.85.0.2:80/": net/http: {text}'


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a/b?c=d&e", "/a/b?c=d&e"),
        ("healthz", "/healthz"),
        ("/a b", "/a%20b"),
        ("/ü", "/%C3%BC"),
        ("/a%20b", "/a%20b"),
        ("/a%zz", "/a%25zz"),
        ("/path#fragment", "/path"),
        ("/path?q=a b", "/path?q=a%20b"),
        ("//host/path", "/path"),
        ("http://host/path?x", "/path?x"),
        ("/a:b@c;d,e=f+g$h!i*j'k(l)", "/a:b@c;d,e=f+g$h!i*j'k(l)"),
        ("/a\nb", "/a%0Ab"),
    ],
)
def test_targets(path: str, target: str) -> None:
    assert request_target(path) == target


@given(st.text())
def test_a_target_is_one_word_whatever_is_asked_for(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    target = request_target(path)
    assert target.startswith("/")
    assert not any(letter <= " " or letter == "\x7f" for letter in target)


@pytest.mark.parametrize(
    ("port", "expected"), [(80, 80), ("web", 8080), ("admin", 9000), ("8443", 8443), (65535, 65535)]
)
def test_ports(port: int | str, expected: int) -> None:
    assert resolve_port(port, CONTAINER) == expected


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (0, "invalid port number: 0"),
        (65536, "invalid port number: 65536"),
        ("none", 'strconv.Atoi: parsing "none": invalid syntax'),
        ("-1", "invalid port number: -1"),
    ],
)
def test_ports_that_are_none(port: int | str, text: str) -> None:
    with pytest.raises(BadProbeError) as failure:
        resolve_port(port, CONTAINER)
    assert str(failure.value) == text


def test_build_keeps_the_url_for_messages() -> None:
    assert build(tls=True, host="::1", port=1, target="/x", headers=()).url == "https://[::1]:1/x"


# --- responses --------------------------------------------------------------------------------


def answer(*pieces: bytes) -> Response:
    response = Response()
    for piece in pieces:
        if response.feed(piece):
            break
    return response


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_pieces_of_any_size(cut: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhello, and more"
    response = Response()
    for at in range(0, len(data), cut):
        if response.feed(data[at : at + cut]):
            break
    assert response.complete
    assert (response.status, response.headers[b"x-y"]) == (200, b"z")
    assert response.body.startswith(b"hello")


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        # Until the end of the stream, without a length.
        ((b"HTTP/1.0 200 OK\r\n\r\nab", b"cd", b""), 200, b"abcd"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b""),
        ((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",), 304, b""),
        ((b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n",), 500, b""),
        (
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n\r\n"),
            200,
            b"abcde",
        ),
        # Interim answers come before the real one.
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n"), 204, b""),
        # What a shell script with netcat answers.
        ((b"HTTP/1.1 200 OK\n\nok\n", b""), 200, b"ok\n"),
        ((b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok",), 200, b"ok"),
    ],
)
def test_answers(pieces: tuple[bytes, ...], status: int, body: bytes) -> None:
    response = answer(*pieces)
    assert response.complete
    assert (response.status, response.body) == (status, body)


def test_no_more_than_10_kib_are_read() -> None:
    for head in (b"", b"Content-Length: 999999\r\n", b"Transfer-Encoding: chunked\r\n"):
        body = b"fffff\r\n" + b"x" * 20000 if b"chunked" in head else b"x" * 20000
        response = answer(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", body)
        assert response.complete
        assert response.body == b"x" * 10240


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'malformed HTTP response "SSH-2.0-OpenSSH_9.2"'),
        (b"HTTP/2.0 200 OK\r\n\r\n", 'malformed HTTP version "HTTP/2.0"'),
        (b"HTTP/1.1 abc\r\n\r\n", 'malformed HTTP status code "abc"'),
        (b"HTTP/1.1 20\r\n\r\n", 'malformed HTTP status code "20"'),
        (b"HTTP/1.1 2000 x\r\n\r\n", 'malformed HTTP status code "2000"'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", 'bad Content-Length "many"'),
        (b"HTTP/1.1 200 OK\r\nX: y", "unexpected EOF"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 6, "net/http: too many 1xx informational responses"),
    ],
)
def test_what_is_no_answer(data: bytes, text: str) -> None:
    with pytest.raises(BadResponseError) as failure:
        answer(data, b"")
    assert str(failure.value) == text


def test_headers_without_end() -> None:
    response = Response()
    with pytest.raises(BadResponseError, match="server response headers exceeded"):
        for _ in range(10000):
            response.feed(b"HTTP/1.1 200 OK\r\n" if not response._data else b"X: " + b"y" * 1000 + b"\r\n")


def test_silence() -> None:
    with pytest.raises(EmptyResponseError):
        answer(b"")


@pytest.mark.parametrize("head", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_ends_too_early(head: bytes) -> None:
    response = Response()
    assert not response.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    with pytest.raises(EOFError):
        response.feed(b"")
    assert response.status == 200


@pytest.mark.parametrize("data", [b"zz\r\n", b"-1\r\n", b"\r\n", b"+5\r\nabcde\r\n"])
def test_chunks_that_are_none(data: bytes) -> None:
    with pytest.raises(BadResponseError, match="invalid byte in chunk length"):
        dechunk(data)


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n", b"\n",
             b"5\r\nhello\r\n", b"0\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.0 302 \n"]
        ),
    ),
    max_size=12,
)  # fmt: skip


@given(PIECES)
def test_any_bytes_are_an_answer_or_a_failure_that_is_known(pieces: list[bytes]) -> None:
    response = Response()
    try:
        for piece in [*filter(None, pieces), b""]:
            if response.feed(piece):
                break
    except (BadResponseError, EmptyResponseError, EOFError):
        return
    assert response.complete
    assert 100 <= response.status <= 999
    assert len(response.body) <= 10240
