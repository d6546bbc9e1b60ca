"""Denies one system call to a command and to all that it starts: `python -m tests.support.deny CALL ERRNO COMMAND`."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile


def main() -> None:
    call, name, *command = sys.argv[1:]
    from podlite.linux.seccomp import file_filter
    from podlite.linux.seccomp_load import load_filter

    denied = {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": getattr(errno, name)}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}, file)
        file.flush()
        program = file_filter(file.name, 0).program
    load_filter(program)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
