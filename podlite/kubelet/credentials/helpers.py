"""Credential helpers: programs `docker-credential-NAME` that keep passwords elsewhere.

Source: github.com/docker/docker-credential-helpers, README.md, "Development": the registry on standard input, JSON on
standard output.
"""

from __future__ import annotations

import subprocess

import anyio
import msgspec

from podlite.cri.types import AuthConfig
from podlite.errors import PodliteError, explain
from podlite.linux import affinity

# A helper may wait for somebody to unlock a keyring, but not for ever.
_SECONDS = 60.0
_NOT_FOUND = "credentials not found"
# The user name that says that the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - no secret


class HelperError(PodliteError):
    """A credential helper could not be asked, or did not answer."""


class _Answer(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


async def ask_helper(name: str, server: str) -> AuthConfig | None:
    """What helper `name` keeps for `server` (as docker names it); None if it has nothing. Raises HelperError."""
    program = f"docker-credential-{name}"
    if not name or "/" in name or "\0" in name:
        raise HelperError(f"{name!r} cannot be the name of a credential helper")
    try:
        # The program is not to stay on the CPU on which this thread may be kept.
        affinity.scatter()
        with anyio.fail_after(_SECONDS):
            done = await anyio.run_process(
                [program, "get"], input=server.encode(), check=False, stderr=subprocess.DEVNULL
            )
    except TimeoutError as error:
        raise HelperError(f"the credential helper {program} did not answer within {_SECONDS:.0f} s") from error
    except OSError as error:
        raise HelperError(
            f"the credential helper {program} cannot be run: {explain(error)}",
            hint="install it, or take it out of docker's config.json",
        ) from error
    if done.returncode:
        said = " ".join(done.stdout.decode(errors="replace").split())[:200]
        if said.lower().startswith(_NOT_FOUND):
            return None
        raise HelperError(f"the credential helper {program} failed: {said or f'exit code {done.returncode}'}")
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HelperError(f"the credential helper {program} answered with what is not understood: {error}") from error
    if answer.username == _TOKEN_USER:
        return AuthConfig(identity_token=answer.secret)
    return AuthConfig(username=answer.username, password=answer.secret)
