"""podlite netns: named network namespaces, with the names, arguments and output of `ip netns`, and pods' beside them.

Source: ip-netns(8). What differs is said in docs/network.md: errors have podlite's prefix, and a pin that is a pod
sandbox's is shown with its pod.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from podlite.cli import options, terminal
from podlite.errors import PodliteError, UsageError, explain
from podlite.linux import netns, netns_names
from podlite.linux.netlink import NetlinkError, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from podlite.runtime.spawner import Launched

# What comes behind the first word is as `ip` has it; of `exec` it is somebody else's command line.
WORDS_BEFORE_COMMAND = 1

_EPILOG = """commands:
  list                                   the names, with their ids, and the pods whose they are
  list-id [target-nsid ID] [nsid ID]     the ids of this namespace, or of the one that has the id ID here
  add NAME                               make a namespace
  attach NAME PID                        give the namespace that a process is in a name
  set NAME ID|auto                       give a namespace an id, once and for all
  identify [PID]                         the name of a process's namespace, this one's own without PID
  pids NAME                              the processes in a namespace
  exec NAME|--all COMMAND [ARGUMENT...]  run a command in a namespace, with its /sys and what is in /etc/netns/NAME
  monitor                                report names as they come and go
  delete NAME|--all                      take a name away; the namespace goes when nothing is in it any more

Exit status: 0; of exec the command's; 1 if it cannot be done; 2 if the kernel refuses it.
"""

REFUSED = 2
_ALIASES = {"show": "list", "lst": "list", "ls": "list", "del": "delete"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite netns`."""
    parser.usage = "podlite netns [--json] [--all] [COMMAND [ARGUMENT...]]"
    parser.epilog = _EPILOG
    parser.add_argument("verb", nargs="?", default="list", metavar="COMMAND", help="what to do (list)")
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--json", action="store_true", help="print JSON")
    parser.add_argument("-a", "--all", action="store_true", help="of exec and delete: every namespace")
    options.add_directories(parser, "netns-dir", "run-dir")


def _late_options(words: list[str], arguments: argparse.Namespace) -> list[str]:
    """Takes podlite's options out of what comes behind the first word, into `arguments`; returns the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_options(parser)
    parser.set_defaults(**vars(arguments))
    return parser.parse_known_args(words, arguments)[1]


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Does what the first word says; returns the exit status."""
    if launched is not None:
        launched[0].close()
    words = list(arguments.command)
    verb = _ALIASES.get(arguments.verb, arguments.verb)
    if verb != "exec":
        words = _late_options(words, arguments)
    action = _ACTIONS.get(verb)
    if action is None:
        raise UsageError(f'Command "{verb}" is unknown', hint='try "podlite netns --help"')
    directory = os.path.realpath(arguments.netns_dir)
    try:
        return action(Command(directory, os.path.abspath(arguments.run_dir), words, arguments))
    except NetlinkError as error:
        # Words and exit status are those of `ip`.
        terminal.error(_kernels_words(error))
        return REFUSED


class Command:
    """One command line: where the pins are, and the words behind the verb."""

    def __init__(self, directory: str, run_dir: str, words: list[str], arguments: argparse.Namespace) -> None:
        self.directory = directory
        self.run_dir = run_dir
        self.words = words
        self.json: bool = arguments.json
        self.all: bool = arguments.all

    def name(self, missing: str = "No netns name specified") -> str:
        """The next word, a namespace's name. Raises UsageError, PodliteError."""
        if not self.words:
            raise PodliteError(missing)
        name = self.words.pop(0)
        if not netns_names.valid_name(name):
            raise PodliteError(f'Invalid netns name "{name}"')
        return name

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def existing(self, name: str) -> str:
        """The path of a name that is there. Raises PodliteError."""
        try:
            netns_names.identity(self.path(name))
        except OSError as error:
            raise PodliteError(f'Cannot open network namespace "{name}": {error.strerror}') from error
        return self.path(name)


def _list(command: Command) -> int:
    rows: list[dict[str, Any]] = []
    pods = pods_by_pin(command.run_dir)
    found = netns_names.names(command.directory)
    with NetlinkSocket() as netlink:
        for name in found:
            row: dict[str, Any] = {"name": name}
            try:
                id = netns_names.id_of(netlink, command.path(name))
            except OSError:
                id = netns_names.NOT_ASSIGNED  # no namespace, but a file that somebody has left there
            if id != netns_names.NOT_ASSIGNED:
                row["id"] = id
            if command.path(name) in pods:
                row["pod"] = pods[command.path(name)]
            rows.append(row)
    if command.json:
        return _print_json(rows)
    for row in rows:
        notes = "".join(f" ({key}: {row[key]})" for key in ("id", "pod") if key in row)
        print(f"{row['name']}{notes}")
    return 0


def _list_id(command: Command) -> int:
    wanted: dict[str, int] = {}
    while command.words:
        key = command.words.pop(0)
        if key not in ("target-nsid", "nsid"):
            raise UsageError(f'What is "{key}"?', hint="list-id [target-nsid ID] [nsid ID]")
        wanted[key] = _read_id(command.words.pop(0) if command.words else "", key)
    by_id: dict[int, str] = {}
    with NetlinkSocket() as netlink:
        for name in netns_names.names(command.directory):
            try:
                by_id[netns_names.id_of(netlink, command.path(name))] = name
            except OSError:
                continue
        target = wanted.get("target-nsid")
        if "nsid" in wanted:
            one = netns_names.find_id(netlink, wanted["nsid"], target)
            found = [] if one is None else [one]
        else:
            found = netns_names.ids(netlink, target)
    rows: list[dict[str, Any]] = []
    for each in found:
        row: dict[str, Any] = {} if each.id < 0 else {"nsid": each.id}
        if each.current is not None and each.current >= 0:
            row["current-nsid"] = each.current
        name = by_id.get(each.id if each.current is None else each.current, "")
        if name:
            row["name"] = name
        rows.append(row)
    if command.json:
        return _print_json(rows)
    for row in rows:
        current = f"current-nsid {row['current-nsid']} " if "current-nsid" in row else ""
        note = f"(iproute2 netns name: {row['name']})" if "name" in row else ""
        print(f"nsid {row.get('nsid', 'unassigned')} {current}{note}")
    return 0


def _add(command: Command) -> int:
    return _pin(command, command.name(), _create)


def _attach(command: Command) -> int:
    missing = "No netns name and PID specified"
    name = command.name(missing)
    if not command.words:
        raise PodliteError(missing)
    pid = _read_pid(command.words.pop(0))
    return _pin(command, name, lambda path: netns.pin_process(path, pid), source=f"/proc/{pid}/ns/net")


def _create(path: str) -> None:
    own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.create(path, own, lambda: None)
    finally:
        os.close(own)


def _pin(command: Command, name: str, make: Callable[[str], None], source: str = "/proc/self/ns/net") -> int:
    path = command.path(name)
    netns.prepare_directory(command.directory)
    try:
        make(path)
    except FileExistsError as error:
        raise PodliteError(f'Cannot create namespace file "{path}": {error.strerror}') from error
    except OSError as error:
        raise PodliteError(f"Bind {source} -> {path} failed: {os.strerror(error.errno or 0)}") from error
    return 0


def _set(command: Command) -> int:
    name = command.name()
    if not command.words:
        raise PodliteError("No nsid specified")
    word = command.words.pop(0)
    id = netns_names.NOT_ASSIGNED if word == "auto" else _read_id(word, "netnsid")
    with NetlinkSocket() as netlink:
        netns_names.set_id(netlink, command.existing(name), id)
    return 0


def _identify(command: Command) -> int:
    pid: int | str = _read_pid(command.words.pop(0)) if command.words else "self"
    try:
        name = netns_names.name_of_process(command.directory, pid)
    except OSError as error:
        raise PodliteError(f"Cannot open network namespace: {error.strerror}") from error
    if command.json:
        return _print_json([{"name": name}] if name else [])
    print(name)
    return 0


def _pids(command: Command) -> int:
    try:
        found = list(netns_names.pids(command.path(command.name())))
    except OSError as error:
        raise PodliteError(f"Cannot open network namespace: {error.strerror}") from error
    if command.json:
        return _print_json(found)
    for pid in found:
        print(pid)
    return 0


def _exec(command: Command) -> int:
    if command.all:
        return _exec_all(command)
    name = command.name()
    if not command.words:
        raise PodliteError("No command specified")
    command.existing(name)
    return _run_in(command, name)


def _exec_all(command: Command) -> int:
    if not command.words:
        raise PodliteError("No command specified")
    failed = 0
    for name in netns_names.names(command.directory):
        print(f"\nnetns: {name}", flush=True)
        child = os.fork()
        if child == 0:
            status = 255
            try:
                status = _run_in(command, name)
            except PodliteError as error:
                print(f"podlite: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        failed = failed or int(ended != 0)
    return 0 if not failed else 1


def _run_in(command: Command, name: str) -> int:
    """Becomes the command. Raises PodliteError."""
    try:
        netns_names.enter(command.directory, name)
    except OSError as error:
        raise PodliteError(f'Cannot enter network namespace "{name}": {explain(error)}') from error
    sys.stdout.flush()
    try:
        os.execvp(command.words[0], command.words)
    except OSError as error:
        raise PodliteError(f'exec of "{command.words[0]}" failed: {error.strerror}') from error


def _delete(command: Command) -> int:
    for name in netns_names.names(command.directory) if command.all else [command.name()]:
        path = command.path(name)
        pod = pods_by_pin(command.run_dir).get(path)
        if pod is not None:
            raise PodliteError(
                f'"{name}" is the network of pod {pod}', hint=f"`podlite rm {pod}` ends it, and takes this away too"
            )
        if not os.path.lexists(path):
            raise PodliteError(f'Cannot remove namespace file "{path}": {os.strerror(2)}')
        try:
            netns.remove(path)
        except OSError as error:
            raise PodliteError(f'Cannot remove namespace file "{path}": {error.strerror}') from error
    return 0


def _monitor(command: Command) -> int:
    import select

    from podlite.linux import inotify

    netns.prepare_directory(command.directory)
    fd = inotify.init()
    inotify.add_watch(fd, command.directory, inotify.IN_CREATE | inotify.IN_DELETE)
    while True:
        select.select([fd], [], [])
        for event in inotify.read_events(fd):
            what = "add" if event.mask & inotify.IN_CREATE else "delete" if event.mask & inotify.IN_DELETE else ""
            if not what:
                continue
            if command.json:
                _print_json({"event": what, "name": event.name})
            else:
                print(f"{what} {event.name}", flush=True)


_ACTIONS: dict[str, Callable[[Command], int]] = {
    "list": _list,
    "list-id": _list_id,
    "add": _add,
    "attach": _attach,
    "set": _set,
    "identify": _identify,
    "pids": _pids,
    "exec": _exec,
    "monitor": _monitor,
    "delete": _delete,
}


def pods_by_pin(run_dir: str) -> dict[str, str]:
    """The pin of a pod sandbox → `namespace/name`, by the records of this boot. Blocking."""
    from podlite.runtime.journal import FILE, load

    found: dict[str, str] = {}
    try:
        directories = os.listdir(f"{run_dir}/pods")
    except OSError:
        return found
    for name in directories:
        try:
            entries = load(f"{run_dir}/pods/{name}/{FILE}")
        except (OSError, ValueError):
            continue
        if entries and entries[0].get("netns"):
            metadata = entries[0].get("config", {}).get("metadata", {})
            pod = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
            found[os.path.realpath(entries[0]["netns"])] = pod
    return found


def _read_id(word: str, what: str) -> int:
    try:
        id = int(word)
    except ValueError:
        raise PodliteError(f'argument "{word}" is wrong: Invalid "{what}" value') from None
    if not 0 <= id < 1 << 31:
        raise PodliteError(f'argument "{word}" is wrong: "{what}" value should be >= 0')
    return id


def _read_pid(word: str) -> int:
    if not word.isdecimal() or not int(word):
        raise PodliteError(f"Invalid PID: {word}")
    return int(word)


def _kernels_words(error: NetlinkError) -> str:
    said = error.strerror or ""
    own = os.strerror(error.errno or 0)
    return said[len(own) :].strip(" ()") or own if said.startswith(own) else said


def _print_json(value: object) -> int:
    import json

    print(json.dumps(value, separators=(",", ":")), flush=True)
    return 0
