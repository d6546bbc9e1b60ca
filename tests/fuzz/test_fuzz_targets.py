"""The fuzz targets on what hypothesis makes up: bytes, and what is nearly right."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.support.agents import manifest

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("a" * 120, tarfile.REGTYPE), ("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "../../etc/passwd" if kind == tarfile.SYMTYPE else ""
            member.size = 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"hello"))
    return buffer.getvalue()


RECORD = "\n".join(
    json.dumps(each)
    for each in (
        {"version": 1, "boot": "x", "sandbox": "s", "config": {}, "created_at": 1},
        {"container": "c", "config": {}, "created_at": 1},
        {"created": "c"},
        {"removed": "c"},
    )
)
# What is nearly right: pieces of these are replaced, doubled and left out.
SEEDS = {
    "manifests": json.dumps(manifest("web", volumes=[{"name": "v", "emptyDir": {}}])).encode(),
    "manifest_source": json.dumps(manifest("web")).encode(),
    "stored_pod": json.dumps(manifest("web")).encode(),
    "record": RECORD.encode() + b"\n",
    "tar": _tar(),
    "layer": _tar(),
    "log_line": b"2026-11-23T20:00:00.123456789Z stdout F hello\n",
    "jsonpath": b"{range .items[?(@.ready==true)]}{.metadata['name','labels']}{\"\\n\"}{..n[0:-1:2]}{end}",
    "accept": b"application/json;as=Table;v=v1;g=meta.k8s.io;q=0.5, */*;q=0.1",
    "selectors": b"a=b,c!=d,e in (f,g),!h",
    "reference": b"registry.example:5000/a/b:tag@sha256:" + b"0" * 64,
}


@st.composite
def damaged(draw: Any, seed: bytes) -> bytes:
    """The seed with a few pieces of it changed."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 20))
        piece = draw(st.one_of(st.binary(max_size=20), st.just(bytes(data[at : at + 40]))))
        data[at : at + length] = piece
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    @QUICK
    @given(st.binary(max_size=2000))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right(name: str) -> None:
    TARGETS[name](SEEDS[name])

    @QUICK
    @given(damaged(SEEDS[name]))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()
