"""podlite image: pulls, loads, lists, inspects and removes images."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from podlite.cli import image_pull, options, terminal
from podlite.cli.table import format_table, human_size
from podlite.errors import PodliteError, UsageError

if TYPE_CHECKING:
    from typing import Any

    from podlite.runtime.image.store import ImageStore, StoredImage
    from podlite.runtime.spawner import Launched

_NONE = "<none>"
# As many digits of an id as every tool shows; with its algorithm it can be typed back.
_SHORT = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite image` and its own commands."""
    commands = parser.add_subparsers(dest="image_command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )

    image_pull.add_arguments(command("pull", "fetch images from their registries"))
    load = command("load", "load images from an archive of docker save, an OCI archive or an OCI layout directory")
    load.add_argument("source", metavar="FILE|DIR|-", help="- is standard input")
    load.add_argument("--name", metavar="NAME", default="", help="for an image that has no name of its own")
    ls = command("ls", "list images")
    ls.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    ls.add_argument("--digests", action="store_true", help="whole ids, and the names by digest")
    ls.add_argument("-o", "--output", choices=("json", "yaml"), help="another form than the table")
    ls.add_argument("--no-headers", action="store_true", help="print the table without its first line")
    inspect = command("inspect", "print all that is known of images")
    inspect.add_argument("images", metavar="IMAGE", nargs="+", help="a name, an id or the beginning of one")
    inspect.add_argument("-o", "--output", choices=("json", "yaml"), default="json", help="in which form (json)")
    rm = command("rm", "remove images; their layers go when no container uses them any more")
    rm.add_argument("images", metavar="IMAGE", nargs="+", help="a name, an id or the beginning of one")
    rm.add_argument("-f", "--force", action="store_true", help="an image that is not there is no error")
    prune = command("prune", "remove images that have no name and that no container uses")
    prune.add_argument("-a", "--all", action="store_true", help="also those that have names")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    for each in (load, ls, inspect, rm, prune):
        options.add_directories(each, *(() if each in (load, rm, prune) else ("state-dir",)))


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Carries out one of the commands; returns the exit status."""
    from podlite.runtime.image.store import ImageStore

    store = ImageStore(f"{os.path.abspath(arguments.state_dir)}/images")
    if arguments.image_command in ("pull", "load", "rm", "prune"):
        options.reap_orphans(arguments)
    return _COMMANDS[arguments.image_command](store, arguments)


def _load(store: ImageStore, arguments: argparse.Namespace) -> int:
    from podlite.runtime.image.load import load_images

    if arguments.source == "-" and os.isatty(0):
        raise UsageError("standard input is a terminal, not an image", hint="docker save IMAGE | podlite image load -")
    for image in load_images(store, arguments.source, name=arguments.name):
        for name in image.names or [image.id]:
            print(f"Loaded {name}")
        if not image.names:
            terminal.note("The image has no name: run it by its id, or load it again with --name.")
    return 0


# --- looking ------------------------------------------------------------------------------------


def _ls(store: ImageStore, arguments: argparse.Namespace) -> int:
    images = list_images(store)
    if arguments.quiet:
        _write("".join(f"{each.record.id if arguments.digests else _short(each)}\n" for each in images))
    elif arguments.output:
        _dump([describe(store, each, whole=False) for each in images], arguments.output)
    else:
        rows = [row for each in images for row in _rows(each, whole=arguments.digests)]
        header = ("NAME", "TAG", "ID", "LOADED", "SIZE")
        _write(format_table(header, rows, with_header=not arguments.no_headers))
    return 0


def list_images(store: ImageStore) -> list[StoredImage]:
    """All images, the newest first; the one that is made of this machine is there always. Raises ImageError."""
    from podlite.runtime.image.store import EMBEDDED_NAME

    if os.access(os.path.dirname(store.layout.root), os.W_OK) or store.layout.exists():
        try:
            store.lookup(EMBEDDED_NAME)
        except PodliteError as error:
            terminal.warning(error.message)
    return store.images()


def _rows(image: StoredImage, *, whole: bool) -> list[list[str]]:
    """One row for each tag; for each digest only where there is no tag, or all is to be seen; there may be no name."""
    from podlite.agent.printers.duration import human_duration

    age = f"{human_duration((time.time_ns() - image.added_at) // 1_000_000_000)} ago"
    rest = [image.record.id if whole else _short(image), age, human_size(image.record.size)]
    tags = [name for name in image.names if "@" not in name]
    names = image.names if whole or not tags else tags
    return [[*_split(name), *rest] for name in names] or [[_NONE, _NONE, *rest]]


def _split(name: str) -> tuple[str, str]:
    """(repository, tag), or a digest in the tag's place."""
    repository, at, digest = name.partition("@")
    if at:
        return repository, f"@{digest[: len('sha256:') + _SHORT]}"
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, _NONE)


def _short(image: StoredImage) -> str:
    return image.record.hex[:_SHORT]


def _inspect(store: ImageStore, arguments: argparse.Namespace) -> int:
    _dump([describe(store, _find(store, word), whole=True) for word in arguments.images], arguments.output)
    return 0


def _find(store: ImageStore, word: str) -> StoredImage:
    record = store.lookup(word)
    found = next((each for each in store.images() if record is not None and each.record.id == record.id), None)
    if found is None:
        raise PodliteError(f'image "{word}" not found', hint="`podlite image ls` lists the images there are")
    return found


def describe(store: ImageStore, image: StoredImage, *, whole: bool) -> dict[str, Any]:
    """An image as plain data; `whole` adds its configuration, its layers and who uses it. Raises ImageError."""
    import msgspec

    from podlite.kubelet.gotime import rfc3339

    record = image.record
    described: dict[str, Any] = {
        "id": record.id,
        "names": image.names,
        "loadedAt": rfc3339(image.added_at),
        "sizeBytes": record.size,
    }
    if whole:
        described["usedBy"] = sorted(holder for holder, id in store.holders().items() if id == record.id)
        described["layers"] = [store.layout.layer(each) for each in record.layers]
        described["binds"] = [{"hostPath": host, "containerPath": path} for host, path in record.binds]
        described["config"] = msgspec.to_builtins(record.config)
    return described


# --- removing -------------------------------------------------------------------------------------


def _rm(store: ImageStore, arguments: argparse.Namespace) -> int:
    status = 0
    for word in arguments.images:
        found = store.find(word)
        names = store.names_of(found) if found is not None else []
        users = sum(id == found.id for id in store.holders().values()) if found is not None else 0
        if found is None or not store.remove(found.id):
            if not arguments.force:
                terminal.error(f'image "{word}" not found')
                status = 1
            continue
        for name in names or [found.id]:
            print(f"Removed {name}")
        if users:
            terminal.note(f"Its layers stay until {users} container{'s' * (users > 1)} that use them are removed.")
    return status


def unused_images(store: ImageStore) -> list[StoredImage]:
    """Images that no container uses, but the one that is made of this machine. Raises ImageError."""
    used = set(store.holders().values())
    return [each for each in store.images() if each.record.id not in used and not each.record.fingerprint]


def _prune(store: ImageStore, arguments: argparse.Namespace) -> int:
    before = store.usage().bytes
    chosen = [each for each in unused_images(store) if arguments.all or not each.names]
    for image in chosen:
        name = ", ".join(image.names) or image.record.id
        if arguments.dry_run:
            print(f"would remove {name} ({human_size(image.record.size)})")
        elif store.remove(image.record.id):
            print(f"removed {name}")
    if not arguments.dry_run:
        store.collect()
        print(f"Freed {human_size(before - store.usage().bytes)}." if chosen else "Nothing to remove.")
    elif not chosen:
        print("Nothing to remove.")
    return 0


def _dump(plain: Any, form: str) -> None:
    from podlite.api import encode

    _write(encode.dump_json(plain) if form == "json" else encode.dump_yaml(plain))


def _write(text: str) -> None:
    sys.stdout.write(text if not text or text.endswith("\n") else text + "\n")
    sys.stdout.flush()


_COMMANDS = {"pull": image_pull.pull_images, "load": _load, "ls": _ls, "inspect": _inspect, "rm": _rm, "prune": _prune}
