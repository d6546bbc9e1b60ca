"""The files of a report: JSON (schema 1), CSV, every sample. Blocking."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import msgspec

from podlite.bench.results import SCHEMA, CaseResult, ReportFile
from podlite.errors import PodliteError, explain

_PERCENTILES = ("p50", "p90", "p99", "p99_9", "max", "mean")


def write_json(path: str, report: ReportFile) -> None:
    """Raises OSError."""
    with open(path, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read_json(path: str) -> ReportFile:
    """A file of `write_json`, also one without `rounds`. Raises PodliteError."""
    try:
        with open(path, "rb") as file:
            report = msgspec.json.decode(file.read(), type=ReportFile)
    except OSError as error:
        raise PodliteError(f"the report {path} cannot be read: {explain(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PodliteError(f"{path} is no report of podlite bench: {error}") from None
    if report.schema != SCHEMA:
        raise PodliteError(f"{path} has schema {report.schema}, and this podlite reads schema {SCHEMA}")
    return report


def write_csv(path: str, results: Sequence[CaseResult]) -> None:
    """One line for each case; times in milliseconds. Raises OSError."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["name", "impl", "mode", "concurrency", "rate", "live", "count", "errors"]
            + [f"{what}_{each}_ms" for what in ("create", "teardown") for each in _PERCENTILES]
            + ["ops_per_s", "cpu_user_ms", "cpu_system_ms", "cpu_kernel_ms", "settle_ms", "pool_hit_rate", "refill_ms"]
        )
        for result in results:
            entry, cpu = result.entry(), result.cpu_per_op
            writer.writerow(
                [
                    entry.name,
                    entry.impl,
                    entry.mode,
                    entry.concurrency,
                    entry.rate,
                    entry.live,
                    entry.count,
                    entry.errors,
                ]
                + [getattr(summary, each) for summary in (entry.create_ms, entry.teardown_ms) for each in _PERCENTILES]
                + [entry.ops_per_s, *(round(value, 4) for value in (cpu.user, cpu.system, cpu.kernel))]
                + ["" if entry.settle_ms is None else entry.settle_ms]
                + (["", ""] if entry.pool is None else [entry.pool.hit_rate, entry.pool.refill_ms])
            )


def write_samples(path: str, results: Sequence[CaseResult]) -> None:
    """One line for each operation that worked; nanoseconds, `begin_ns` of CLOCK_MONOTONIC. Raises OSError."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["name", "impl", "concurrency", "rate", "live", "round", "begin_ns", "create_ns", "teardown_ns"]
        )
        for result in results:
            case = result.case
            for sample in result.samples:
                writer.writerow([case.name, case.impl, case.concurrency, case.rate, case.live, *sample])
