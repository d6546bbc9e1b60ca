"""The entry point of the `podlite` command.

A verb that runs pods needs a spawner, and the spawner takes as long to start as this program takes to import what
it needs. So it is started first, before anything heavy is imported.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

# podlite.steps.FAULTS_VARIABLE, without importing that where nobody asks for it.
FAULTS = "PODLITE_FAULTS"
# With this, the pods are run by somebody else.
_REMOTE = "--runtime-endpoint"
# The verbs that run pods themselves.
_SPAWNING = frozenset(("run", "agent", "cri"))
# Those that stay, or that load much of other people's: they have no use for imports that are put off.
_LASTING = frozenset(("agent", "cri", "bench"))


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit status."""
    # Nothing that an import makes is garbage: looking for it costs 7 ms of a small pod's 90.
    gc.disable()
    argv = sys.argv[1:]
    if FAULTS in os.environ:
        from podlite import steps

        steps.inject_from_environment(os.environ)
    from podlite import quick_imports

    quick_imports.install()
    try:
        launched = _launch_early(argv) if argv and argv[0] in _SPAWNING else None
        if not argv or argv[0] not in _LASTING:
            from podlite import late_imports

            late_imports.install()
        from podlite.cli.main import main as run_command

        status = run_command(argv, launched)
    except KeyboardInterrupt:
        status = 130  # before anything was begun
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends the process at once: what is to be undone has been, and to take the interpreter apart takes 12 ms more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from podlite.cli.exit_status import CLOSED

        status = CLOSED
    except (OSError, ValueError) as error:
        from podlite.cli import terminal

        terminal.error(f"standard output cannot be written: {getattr(error, 'strerror', None) or error}")
        status = status or 1
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    os._exit(status)


def _launch_early(argv: list[str]) -> tuple[socket.socket, int] | None:
    """A spawner for the directories that the command line names; None if there is to be none, or it cannot be.

    The real reading of the command line comes later and decides; a spawner that does not fit is ended then.
    """
    if "--help" in argv or "-h" in argv or os.geteuid() != 0 or any(_REMOTE in each for each in argv):
        return None
    from podlite.cli.directories import directories
    from podlite.errors import PodliteError
    from podlite.runtime.shim.launch import launch

    found = directories(argv, os.environ)
    try:
        return launch(found["run-dir"], [found["log-dir"], found["state-dir"]])
    except (OSError, PodliteError):
        # Said properly by whoever needs the spawner.
        return None


if __name__ == "__main__":
    main()
