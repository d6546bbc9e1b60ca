"""Coverage-guided fuzzing of the parsers and the image unpacker, by hand:

    pip install atheris
    python -m tests.fuzz.fuzz TARGET [CORPUS_DIRECTORY] [-max_total_time=600] [-rss_limit_mb=512] [-timeout=5]

TARGET is one of those in tests/fuzz/targets.py; the options are libFuzzer's. A finding is written to `crash-…`, and
`python -m tests.fuzz.fuzz TARGET crash-…` shows it again.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["podlite", "yaml"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.fuzz {'|'.join(TARGETS)} [libFuzzer's arguments]")
    target = TARGETS[sys.argv.pop(1)]
    defaults = ["-timeout=10", "-rss_limit_mb=1024"]
    atheris.Setup([*sys.argv, *defaults], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
