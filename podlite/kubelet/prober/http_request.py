"""The request of an httpGet probe or hook, as bytes: made once for each container instance, sent many times. Pure.

Sources: pkg/probe/http/request.go and pkg/probe/util.go, Kubernetes 1.36; Go's net/url and net/http for how paths
are escaped and headers spelt; RFC 9110 and 9112.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.api.gotext import quote

if TYPE_CHECKING:
    from podlite.api.base import IntOrString
    from podlite.api.container import Container
    from podlite.api.probes import HTTPGetAction

# The Kubernetes whose behaviour this is; servers recognise probes by it.
USER_AGENT_VERSION = "1.36"

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_UNRESERVED = frozenset(b"-_.~$&+,/:;=@0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset("0123456789abcdefABCDEF")
_VALID = frozenset("!$&'()*+,;=:@[]/-_.~%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class BadProbeError(Exception):
    """The probe itself cannot be carried out: a port that does not exist, a header that cannot be."""


class Request(NamedTuple):
    """Where to connect and what to send. `url` is for messages; `target` is the path with its query."""

    host: str
    port: int
    tls: bool
    url: str
    target: str
    headers: tuple[tuple[str, str], ...]
    own_host_header: str
    data: bytes


def resolve_port(port: IntOrString, container: Container) -> int:
    """A port number, from a number or the name of one of the container's ports. Raises BadProbeError."""
    number = port if isinstance(port, int) else -1
    if isinstance(port, str):
        named = [each.container_port for each in container.ports if each.name == port]
        if named:
            number = named[0]
        else:
            try:
                number = int(port)
            except ValueError:
                raise BadProbeError(f"strconv.Atoi: parsing {quote(port)}: invalid syntax") from None
    if not 0 < number < 65536:
        raise BadProbeError(f"invalid port number: {number}")
    return number


def make_request(action: HTTPGetAction, container: Container, pod_ip: str, purpose: str = "probe") -> Request:
    """The request of an action; without a host it goes to the pod. Raises BadProbeError."""
    headers: dict[str, list[str]] = {}
    for header in action.http_headers:
        headers.setdefault(_canonical(header.name), []).append(header.value)
    agent = headers.pop("User-Agent", [f"kube-{purpose}/{USER_AGENT_VERSION}"])[0]
    own_host = headers.pop("Host", [""])[0]
    accept = headers.setdefault("Accept", ["*/*"])
    if accept[0] == "":
        del headers["Accept"]
    lines = [("User-Agent", agent)] if agent else []
    lines += [(name, value) for name in sorted(headers) for value in headers[name]]
    return build(
        tls=action.scheme.upper() == "HTTPS",
        host=action.host or pod_ip,
        port=resolve_port(action.port, container),
        target=request_target(action.path),
        headers=tuple(lines),
        own_host_header=own_host,
    )


def build(
    *, tls: bool, host: str, port: int, target: str, headers: tuple[tuple[str, str], ...], own_host_header: str = ""
) -> Request:
    """Puts a request together. Raises BadProbeError for a header that would break out of its line."""
    shown = f"[{host}]" if ":" in host else host
    authority = f"{shown}:{port}"
    url = f"{'https' if tls else 'http'}://{authority}{target}"
    lines = [f"GET {target} HTTP/1.1", f"Host: {own_host_header or authority}"]
    for name, value in (("Host", own_host_header), *headers):
        if not name or not _TOKEN.issuperset(name.encode()):
            raise BadProbeError(f"Get {quote(url)}: net/http: invalid header field name {quote(name)}")
        if any((letter < " " and letter != "\t") or letter == "\x7f" for letter in value):
            raise BadProbeError(f"Get {quote(url)}: net/http: invalid header field value for {quote(name)}")
        if name != "Host":
            lines.append(f"{name}: {value}")
    lines.append("Connection: close")
    data = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
    return Request(host, port, tls, url, target, headers, own_host_header, data)


def request_target(path: str) -> str:
    """The path and query of a request line, with what must be escaped escaped; never empty.

    A path is read as a URL reference, so that it may have a query; a scheme, host or fragment in it is dropped.
    """
    reference = path.partition("#")[0]
    if _has_bad_escape(reference.partition("?")[0]) or any(letter < " " or letter == "\x7f" for letter in reference):
        # No URL at all: the kubelet takes it for a path as it is, question marks included.
        return _with_slash(_escape(path))
    reference, mark, query = reference.partition("?")
    scheme, colon, rest = reference.partition("://")
    if colon and scheme.isalnum():
        reference = "//" + rest
    if reference.startswith("//"):
        reference = "/" + reference[2:].partition("/")[2]
    escaped = reference if _VALID.issuperset(reference) else _escape(_unescape(reference))
    return _with_slash(escaped) + mark + query.replace(" ", "%20")


def _with_slash(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _has_bad_escape(path: str) -> bool:
    return any(not _HEX.issuperset(part[:2]) or len(part) < 2 for part in path.split("%")[1:])


def _unescape(path: str) -> bytes:
    first, *parts = path.split("%")
    result = first.encode("utf-8", "surrogateescape")
    for part in parts:
        result += bytes.fromhex(part[:2]) + part[2:].encode("utf-8", "surrogateescape")
    return result


def _escape(path: str | bytes) -> str:
    data = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    return "".join([chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data])


def _canonical(name: str) -> str:
    """The spelling of a header that Go sends: `x-request-id` becomes X-Request-Id."""
    if not _TOKEN.issuperset(name.encode()):
        return name
    return "-".join([part[:1].upper() + part[1:].lower() for part in name.split("-")])
