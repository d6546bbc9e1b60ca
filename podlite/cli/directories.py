"""The directories of the command line, read twice: at once for the spawner, and with everything else later."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Option → default; each can be set by an environment variable too, PODLITE_RUN_DIR and so on.
DEFAULTS = {
    "run-dir": "/run/podlite",
    "state-dir": "/var/lib/podlite",
    "log-dir": "/var/log/pods",
    "netns-dir": "/var/run/netns",
    "cgroup-root": "/podlite",
}


def variable(option: str) -> str:
    """The environment variable of an option."""
    return f"PODLITE_{option.upper().replace('-', '_')}"


def directories(argv: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Option → value, from the command line, the environment or the default. Pure; knows no other option."""
    found = {name: environment.get(variable(name)) or default for name, default in DEFAULTS.items()}
    for index, word in enumerate(argv):
        if word == "--":
            break
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if name in found:
            if equals:
                found[name] = value
            elif index + 1 < len(argv):
                found[name] = argv[index + 1]
    return found
