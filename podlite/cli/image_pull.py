"""podlite image pull: fetches images from their registries, and shows how far that is."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli import options
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from podlite.cri.types import AuthConfig
    from podlite.runtime.image.platform import Platform
    from podlite.runtime.image.store import ImageStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite image pull`."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a name with a tag (latest) or a digest")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the ids")
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", default="", help="not this machine's own")
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument("--creds", metavar="USER[:PASSWORD]", default="", help="asks for a password that is left out")
    secrets.add_argument(
        "--authfile", metavar="FILE", default="", help="credentials in the format of docker's config.json"
    )
    options.add_directories(parser)


def pull_images(store: ImageStore, arguments: argparse.Namespace) -> int:
    """Pulls each image, and prints its id; the first that cannot be pulled ends it. Raises PodliteError."""
    import anyio

    from podlite.runtime.image.platform import parse_platform

    platforms = parse_platform(arguments.platform) if arguments.platform else None
    creds = _creds(arguments.creds) if arguments.creds else None
    if arguments.authfile and not os.path.exists(arguments.authfile):
        raise PodliteError(f"the file of credentials {arguments.authfile} does not exist")
    for name in arguments.images:
        print(anyio.run(_pull, store, name, creds, arguments, platforms), flush=True)
    return 0


def _creds(text: str) -> AuthConfig:
    from podlite.cri.types import AuthConfig

    user, colon, password = text.partition(":")
    if not colon:
        if not sys.stdin.isatty():
            raise UsageError("--creds has no password, and standard input is no terminal to ask for one")
        import getpass

        password = getpass.getpass(f"password of {user}: ")
    return AuthConfig(username=user, password=password)


async def _pull(
    store: ImageStore,
    name: str,
    creds: AuthConfig | None,
    arguments: argparse.Namespace,
    platforms: list[Platform] | None,
) -> str:
    """The id of the image, which is there then."""
    from podlite.cli.pull_progress import Quiet, open_progress
    from podlite.cri.errors import ImageError
    from podlite.runtime.image.registry.pull import pull
    from podlite.runtime.image.store import EMBEDDED_NAME

    if name == EMBEDDED_NAME:
        found = store.lookup(name)
        assert found is not None
        return found.id
    auths: list[AuthConfig] = [creds] if creds else await _stored_credentials(name, arguments.authfile)
    errors: list[ImageError] = []
    for auth in auths or (None,):
        try:
            with Quiet() if arguments.quiet else open_progress(name, sys.stderr) as progress:
                return (await pull(store, name, auth, platforms=platforms, progress=progress)).id
        except ImageError as error:
            errors.append(error)
    raise errors[-1]


async def _stored_credentials(name: str, authfile: str) -> list[AuthConfig]:
    from podlite.kubelet.credentials.lookup import machine_credentials
    from podlite.kubelet.image_name import InvalidImageName, with_default_tag
    from podlite.kubelet.paths import default_config_paths

    try:
        image = with_default_tag(name)
    except InvalidImageName as error:
        raise PodliteError(str(error)) from error
    return await machine_credentials(image, (authfile,) if authfile else default_config_paths(os.environ, os.geteuid()))
