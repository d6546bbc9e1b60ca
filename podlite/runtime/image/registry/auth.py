"""Answers a registry's `401 Unauthorized`: basic authentication, or a token from where the registry says.

Sources: RFC 7235 (challenges), RFC 7617 (Basic), distribution/distribution docs/spec/auth/token.md and oauth.md.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

import anyio
import msgspec

from podlite.cri.auth import decode_auth
from podlite.runtime.image.registry.failure import RegistryFailure
from podlite.runtime.image.registry.hosts import is_loopback, split_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from podlite.cri.types import AuthConfig

    # (method, url, headers, body) → (status, body); raises RegistryFailure.
    Ask = Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]

# What token servers call whoever asks them.
CLIENT_ID = "podlite"
_TOKEN_ATTEMPTS = frozenset((400, 401, 404, 405))
_SEPARATORS = frozenset(' \t,="')


class Credentials(NamedTuple):
    """A user's name and password, or a token to get others with, or one to show as it is."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


class Challenge(NamedTuple):
    """One way to authenticate that a server offers; scheme and parameters' names are in lower case."""

    scheme: str
    parameters: dict[str, str]


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


def credentials_of(auth: AuthConfig | None, registry: str) -> Credentials | None:
    """The credentials that a CRI message holds for `registry`; None if it has none, or is for another one.

    Pure. `auth` without a server's address is for the registry of the image. Raises RegistryFailure.
    """
    if auth is None:
        return None
    if auth.server_address:
        stated = auth.server_address
        host = urlsplit(stated if "://" in stated else f"https://{stated}").netloc
        if host != registry and not (registry == "docker.io" and host in ("index.docker.io", "registry-1.docker.io")):
            return None
    username, password = auth.username, auth.password
    if not username and auth.auth:
        try:
            username, password = decode_auth(auth.auth)
        except ValueError as error:
            raise RegistryFailure("the credentials are not the base64 form of `name:password`") from error
    found = Credentials(username, password, auth.identity_token, auth.registry_token)
    return found if any(found) else None


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """The challenges in a response's WWW-Authenticate headers (RFC 7235, 4.1); what is malformed ends one."""
    challenges: list[Challenge] = []
    for header in headers:
        scanner = _Scanner(header)
        current: Challenge | None = None
        while (word := scanner.word()) is not None:
            value = scanner.value()
            if value is None:
                current = Challenge(word.lower(), {})
                challenges.append(current)
            elif current is not None:
                current.parameters[word.lower()] = value
    return challenges


class _Scanner:
    """Words, and the values that follow them after a `=`, quoted or not."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def word(self) -> str | None:
        self._skip(" \t,")
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in _SEPARATORS:
            self._at += 1
        return self._text[start : self._at] or None

    def value(self) -> str | None:
        before = self._at
        self._skip(" \t")
        if not self._text.startswith("=", self._at):
            self._at = before
            return None
        self._at += 1
        self._skip(" \t")
        if not self._text.startswith('"', self._at):
            return self.word() or ""
        self._at += 1
        out = []
        while self._at < len(self._text) and self._text[self._at] != '"':
            if self._text[self._at] == "\\":
                self._at += 1
            out.append(self._text[self._at : self._at + 1])
            self._at += 1
        self._at += 1
        return "".join(out)

    def _skip(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1


class Authorizer:
    """What is shown to one host, for one image. Any number of tasks may use it; one of them asks for a token."""

    def __init__(self, host: str, secure: bool, credentials: Credentials | None, scope: str, ask: Ask) -> None:
        self._host = host
        self._secure = secure
        self._credentials = credentials
        self._scope = scope
        self._ask = ask
        self._lock = anyio.Lock()
        self.header = ""

    async def answer(self, challenges: list[Challenge], shown: str) -> bool:
        """Gets something to show for the challenges of a response to a request that showed `shown`.

        True if there is something else to show now. Raises RegistryFailure.
        """
        async with self._lock:
            if self.header != shown:
                return True  # another task has just been through this
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    self.header = f"Bearer {await self._token(challenge.parameters)}"
                    return self.header != shown
                if challenge.scheme == "basic" and self._credentials is not None and self._credentials.username:
                    self.header = _basic(self._credentials)
                    return self.header != shown
        return False

    async def _token(self, parameters: dict[str, str]) -> str:
        credentials = self._credentials or Credentials()
        if credentials.registry_token:
            return credentials.registry_token
        realm = parameters["realm"]
        self._check_realm(realm)
        wanted = {"scope": parameters.get("scope") or self._scope}
        if parameters.get("service"):
            wanted["service"] = parameters["service"]
        if credentials.identity_token:
            return await self._refresh(realm, wanted, credentials)
        headers = {"Authorization": _basic(credentials)} if credentials.username else {}
        # A scope may be a list of scopes, each a parameter of its own.
        scopes = [("scope", each) for each in wanted.pop("scope").split(" ") if each]
        query = urlencode([*wanted.items(), *scopes])
        status, body = await self._ask("GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers, b"")
        return self._read(realm, status, body)

    async def _refresh(self, realm: str, wanted: dict[str, str], credentials: Credentials) -> str:
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            **wanted,
            "refresh_token": credentials.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, body = await self._ask("POST", realm, headers, urlencode(form).encode())
        return self._read(realm, status, body)

    def _check_realm(self, realm: str) -> None:
        """A registry that is spoken to securely may not have the password sent in the clear."""
        split = urlsplit(realm)
        if split.scheme not in ("http", "https") or not split.netloc:
            raise RegistryFailure(f"{self._host} wants a token from {realm!r}, which is no URL")
        if split.scheme == "http" and self._secure and not is_loopback(split.netloc):
            raise RegistryFailure(
                f"{self._host} wants a token from {realm}, which is not encrypted; nothing was sent there"
            )

    def _read(self, realm: str, status: int, body: bytes) -> str:
        where = split_port(urlsplit(realm).netloc)[0]
        if status in _TOKEN_ATTEMPTS or status == 403:
            raise self.denied(f"{where}, which gives out the tokens of {self._host}, answered {status}")
        if status != 200:
            raise RegistryFailure(f"{where}, which gives out the tokens of {self._host}, answered {status}")
        try:
            answer = msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RegistryFailure(f"{where} answered with what is no token: {error}") from error
        token = answer.token or answer.access_token or ""
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryFailure(f"{where} answered without a token")
        return token

    def denied(self, fact: str) -> RegistryFailure:
        """The failure for an answer that means that these credentials, or none, are not enough."""
        if self._credentials is None:
            return RegistryFailure(
                f"{fact}: there is no such image, or it is not for everybody",
                hint="check the name; `docker login` or `podman login` to the registry writes credentials that podlite "
                "reads, and pods name theirs in imagePullSecrets",
            )
        return RegistryFailure(f"{fact}: there is no such image, or the credentials do not allow to pull it")


def _basic(credentials: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{credentials.username}:{credentials.password}'.encode()).decode()}"
