"""Registries that fail, lie, or want too much; and what a pull does about it."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from blockbuster import blockbuster_ctx

from podlite import steps
from podlite.cri.errors import ImageError, ImageNotFoundError
from podlite.cri.types import AuthConfig
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.registry.progress import UNPACKING, LayerState, Silence
from podlite.runtime.image.registry.retry import RetryPolicy
from tests.support.fault_registry import FaultRegistry, Reply, Request, corrupt, cut, hold
from tests.support.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Layout, TestImage, layer_tar, sha256
from tests.support.pulls import QUICK, Puller

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ROOT = Path(__file__).resolve().parents[3]
NAME = "registry.test/demo:1"
BLOB = "GET /v2/demo/blobs/"


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as served:
        yield served


@pytest.fixture
def puller(tmp_path: Path, registry: FaultRegistry) -> Puller:
    made = Puller(tmp_path)
    made.plain("registry.test", registry.url)
    return made


def serve(registry: FaultRegistry, *layers: Any, tag: str = "1") -> tuple[TestImage, list[str]]:
    """Serves an image whose layers are not compressed; returns it with the layers' digests."""
    image = TestImage("", layers or ({"data": os.urandom(100_000)},))
    layout = Layout()
    registry.add("demo", tag, layout, layout.image(image, layers="none"))
    return image, [sha256(tar) for tar in image.tars()]


def blob(digest: str) -> str:
    return re.escape(f"{BLOB}{digest}")


# --- what breaks ------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_broke(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    registry.on(blob(digest), cut(30_000), cut(20_000))
    assert puller.pull(NAME).id == image.id
    assert [each.headers.get("Range") for each in registry.seen(blob(digest))] == [
        None,
        "bytes=30000-",
        "bytes=50000-",
    ]
    assert puller.left() == []


def ignores_ranges(request: Request, good: Reply) -> Reply:
    return Reply(body=WHOLE[request.path])


WHOLE: dict[str, bytes] = {}


@pytest.mark.parametrize(
    "answer",
    [
        ignores_ranges,
        Reply(416, {"Content-Range": "bytes */100000"}),
        lambda request, good: replace(good, headers={"Content-Range": "bytes 7-100/100"}),
        lambda request, good: replace(good, headers={}),
    ],
    ids=["not known", "not satisfiable", "another one", "not stated"],
)
def test_a_server_that_cannot_go_on_is_asked_for_the_whole(
    registry: FaultRegistry, puller: Puller, answer: Any
) -> None:
    image, (digest,) = serve(registry)
    WHOLE[f"/v2/demo/blobs/{digest}"] = image.tars()[0]
    registry.on(blob(digest), cut(30_000), answer)
    assert puller.pull(NAME).id == image.id
    assert puller.left() == []


def test_a_body_of_unknown_length_that_ends_early_is_no_whole_one(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    registry.on(blob(digest), lambda request, good: replace(good, length=False, body=good.body[:50_000]))
    assert puller.pull(NAME).id == image.id
    assert registry.seen(blob(digest))[1].headers["Range"] == "bytes=50000-"


@pytest.mark.parametrize("what", ["blobs", "manifests"])
def test_what_may_pass_is_tried_again(registry: FaultRegistry, puller: Puller, what: str) -> None:
    image, _ = serve(registry)
    registry.on(f"GET .*/{what}/", Reply(503), Reply(500), Reply(502), cut(10))
    assert puller.pull(NAME).id == image.id


def test_what_does_not_pass_is_given_up(registry: FaultRegistry, puller: Puller) -> None:
    serve(registry)
    registry.on("GET .*/manifests/", *[Reply(503)] * 100)
    with pytest.raises(ImageError, match="answered 503") as caught:
        puller.pull(NAME)
    assert caught.value.reason == "RegistryUnavailable"
    assert len(registry.requests) == QUICK.attempts


def test_what_is_meant_is_not_tried_again(registry: FaultRegistry, puller: Puller) -> None:
    # To a client of CRI it is NOT_FOUND, as by containerd.
    with pytest.raises(ImageNotFoundError, match="has no tag 1 of demo") as caught:
        puller.pull(NAME)
    assert caught.value.reason == "ErrImagePull"
    assert len(registry.requests) == 1


def test_a_server_that_says_when_is_asked_then(registry: FaultRegistry, puller: Puller) -> None:
    """RFC 9110 10.2.3; docker.io answers 429 to who pulls too often."""
    image, _ = serve(registry)
    registry.on("GET .*/manifests/", Reply(429, {"Retry-After": "1"}))
    started = time.monotonic()
    assert puller.pull(NAME).id == image.id
    assert time.monotonic() - started >= 1
    registry.on("GET .*/manifests/", Reply(429, {"Retry-After": "3600"}))
    puller.store.remove(image.id)
    with pytest.raises(ImageError, match="asks to come back in 3600 s") as caught:
        puller.pull(NAME)
    assert "limits how often" in caught.value.hint


def test_a_server_that_falls_silent_is_given_up(registry: FaultRegistry, puller: Puller) -> None:
    _, (digest,) = serve(registry)
    never = threading.Event()
    registry.on(blob(digest), *[hold(100, never)] * 10)
    impatient = RetryPolicy(attempts=2, first=0.01, stall=0.2)
    try:
        with pytest.raises(ImageError, match=r"has sent nothing for"):
            puller.pull(NAME, policy=impatient)
    finally:
        never.set()
    assert puller.store.images() == []


def test_the_next_mirror_is_asked_at_once(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    with FaultRegistry() as broken:
        broken.on("", *[Reply(503)] * 100)
        puller.hosts("registry.test", f'server = "{registry.url}"\n[host."{broken.url}"]\n')
        assert puller.pull(NAME).id == image.id
        assert broken.seen("/manifests/1")[0].path == "/v2/demo/manifests/1?ns=registry.test"
        assert len(broken.seen("/manifests/1")) == 1


def test_a_mirror_that_may_not_resolve_is_asked_for_digests_only(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    with FaultRegistry() as mirror:
        layout = Layout()
        mirror.add("demo", "1", layout, layout.image(image, layers="none"))
        puller.hosts(
            "registry.test",
            f'server = "{registry.url}"\n[host."{mirror.url}"]\ncapabilities = ["pull"]\n'
            f'[host."{mirror.url}".header]\nX-Mirror = ["a", "b"]\n',
        )
        assert puller.pull(NAME).id == image.id
        assert [each.path.partition("?")[0].split("/")[3] for each in mirror.requests] == ["blobs", "blobs"]
        assert registry.seen("/manifests/1")
        assert not registry.seen(blob(digest))


# --- what lies ------------------------------------------------------------------------------------


def test_a_layer_with_another_digest_is_refused(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    registry.on(blob(digest), corrupt)
    with pytest.raises(ImageError, match=f"blob {digest} is damaged"):
        puller.pull(NAME)
    assert puller.store.images() == []
    assert puller.pull(NAME).id == image.id
    assert puller.left() == []


def test_damage_that_an_earlier_try_left_is_found_and_fetched_again(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    puller.store.layout.create()
    Path(puller.store.layout.ingest, digest.removeprefix("sha256:")).write_bytes(b"?" * 500)
    assert puller.pull(NAME).id == image.id
    assert [each.headers.get("Range") for each in registry.seen(blob(digest))] == ["bytes=500-", None]


def test_a_configuration_with_another_digest_is_refused(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    registry.on(blob(image.id), corrupt)
    with pytest.raises(ImageError, match="is damaged"):
        puller.pull(NAME)


def test_a_manifest_with_another_digest_is_refused(registry: FaultRegistry, puller: Puller) -> None:
    serve(registry)
    registry.on("GET .*/manifests/", corrupt, corrupt)
    with pytest.raises(ImageError, match=r"tag 1 of demo at .* is damaged"):
        puller.pull(NAME)
    with pytest.raises(ImageError, match="is damaged"):
        puller.pull(f"registry.test/demo@{registry.requests and _digest(registry)}")


def _digest(registry: FaultRegistry) -> str:
    return next(path.rpartition("/")[2] for path in registry.paths() if "/manifests/sha256:" in path)


def manifest_of(image: TestImage, layout: Layout, **changes: Any) -> dict[str, Any]:
    """A manifest whose fields may lie; adds its blobs to the layout."""
    (tar,) = image.tars()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": layout.blob(image.config_blob(), OCI_CONFIG),
        "layers": [layout.blob(tar, OCI_LAYER)],
        **changes,
    }
    return layout.blob(json.dumps(document).encode(), OCI_MANIFEST)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (10, "has 10240 bytes for blob .*, and should have 10"),
        (20_000, "has 10240 bytes for blob .*, and should have 20000"),
        (1 << 60, "needs at least 1152921504606846976 bytes"),
        (-1, "has a layer of -1 bytes"),
    ],
)
def test_a_layer_of_another_size_is_refused_before_it_comes(
    registry: FaultRegistry, puller: Puller, size: int, message: str
) -> None:
    image, layout = TestImage("", [{"a": "b"}]), Layout()
    lying = {**layout.blob(image.tars()[0], OCI_LAYER), "size": size}
    registry.add("demo", "1", layout, manifest_of(image, layout, layers=[lying]))
    with pytest.raises(ImageError, match=message):
        puller.pull(NAME)
    assert puller.store.images() == []


def test_more_bytes_than_stated_are_not_taken(registry: FaultRegistry, puller: Puller) -> None:
    _, (digest,) = serve(registry)
    registry.on(blob(digest), lambda request, good: replace(good, body=good.body * 100, length=False))
    with pytest.raises(ImageError, match="and more arrived"):
        puller.pull(NAME)


def test_a_layer_that_is_not_the_configurations_is_refused(registry: FaultRegistry, puller: Puller) -> None:
    image, layout = TestImage("", [{"a": "b"}]), Layout()
    other = layout.blob(layer_tar({"a": "c"}), OCI_LAYER)
    registry.add("demo", "1", layout, manifest_of(image, layout, layers=[other]))
    with pytest.raises(ImageError, match="its diffID is"):
        puller.pull(NAME)
    registry.add("demo", "2", layout, manifest_of(image, layout, layers=[]))
    with pytest.raises(ImageError, match="has 0 layers, and its configuration 1"):
        puller.pull("registry.test/demo:2")


# --- what wants too much ----------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [True, False])
def test_a_manifest_over_four_mebibytes_is_refused(registry: FaultRegistry, puller: Puller, stated: bool) -> None:
    """What registries and containerd take at most."""
    raw = json.dumps({"schemaVersion": 2, "layers": [], "x": "x" * (4 << 20)}).encode()
    registry.put_manifest("demo", "1", raw, OCI_MANIFEST)
    registry.on("GET", lambda request, good: replace(good, length=stated))
    with pytest.raises(ImageError, match="has more than 4194304 bytes"):
        puller.pull(NAME)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * (1 << 20),
        b'{"a":' * (1 << 19),
        b'{"schemaVersion": 2, "config": ' + b'{"annotations":' * 100_000,
        b"\xff\xfe",
        b"{}",
        b"null",
        b'{"schemaVersion": 2, "layers": "x", "config": {}}',
    ],
    ids=["nested lists", "nested objects", "nested where it matters", "no UTF-8", "empty", "null", "another type"],
)
def test_documents_that_are_none(registry: FaultRegistry, puller: Puller, raw: bytes) -> None:
    registry.put_manifest("demo", "1", raw, OCI_MANIFEST)
    with pytest.raises(ImageError, match=r"manifest .* (cannot be read|is no image)"):
        puller.pull(NAME)


def test_a_configuration_of_any_size_is_not_read(registry: FaultRegistry, puller: Puller) -> None:
    image, layout = TestImage("", [{"a": "b"}]), Layout()
    config = {**layout.blob(image.config_blob(), OCI_CONFIG), "size": 1 << 40}
    registry.add("demo", "1", layout, manifest_of(image, layout, config=config))
    with pytest.raises(ImageError, match="has 1099511627776 bytes; the limit is"):
        puller.pull(NAME)


def test_indexes_within_indexes_come_to_an_end(registry: FaultRegistry, puller: Puller) -> None:
    layout = Layout()
    descriptor = layout.image(TestImage("", [{"a": "b"}]))
    for _ in range(20):
        descriptor = {**layout.index([descriptor]), "mediaType": OCI_INDEX}
    registry.add("demo", "1", layout, descriptor)
    with pytest.raises(ImageError, match="indexes within indexes"):
        puller.pull(NAME)


def test_an_index_of_many_unknown_platforms_is_not_searched_for_ever(registry: FaultRegistry, puller: Puller) -> None:
    layout = Layout()
    entries = [
        {key: value for key, value in layout.image(TestImage("", [], {"n": n}, architecture="mips")).items()
         if key != "platform"}
        for n in range(100)
    ]  # fmt: skip
    registry.add("demo", "1", layout, layout.index(entries))
    with pytest.raises(ImageError, match="is not there for"):
        puller.pull(NAME)
    assert len(registry.requests) < 50


def test_a_decompression_bomb_is_refused(registry: FaultRegistry, puller: Puller) -> None:
    image, layout = TestImage("", [{"zeros": bytes(20_000_000)}]), Layout()
    registry.add("demo", "1", layout, layout.image(image, layers="gzip"))
    with pytest.raises(ImageError, match="unpacks to more than 1000000 bytes"):
        puller.pull(NAME, limits=Limits(max_bytes=1_000_000))
    assert puller.store.images() == []


def test_a_layer_does_not_pass_through_memory(registry: FaultRegistry, puller: Puller) -> None:
    """The most that a process held is compared for a small and for a large layer."""
    small, large = 1 << 20, 128 << 20
    peaks = []
    for tag, size in (("small", small), ("large", large)):
        serve(registry, {"data": bytes(size)}, tag=tag)
        source = (
            "import sys, re; from tests.support.pulls import Puller; from pathlib import Path;"
            f"Puller(Path(sys.argv[1])).pull('registry.test/demo:{tag}');"
            # Not getrusage(2): that counts what the parent held before the exec.
            "print(int(re.search(r'VmHWM:\\s+([0-9]+)', Path('/proc/self/status').read_text())[1]) << 10)"
        )
        directory = str(puller.certs.parent)
        done = subprocess.run([sys.executable, "-c", source, directory], capture_output=True, check=True, cwd=ROOT)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < (large - small) // 4


# --- redirects ----------------------------------------------------------------------------------


def to(url: str, status: int = 307) -> Any:
    return lambda request, good: Reply(status, {"Location": f"{url}{request.path}"})


def ask_for_password(registry: FaultRegistry, challenge: str = 'Basic realm="x"') -> None:
    """Answers 401 until somebody shows something."""

    def answer(request: Request, good: Reply) -> Reply:
        return good if "Authorization" in request.headers else Reply(401, {"WWW-Authenticate": challenge})

    registry.on("/v2/", *[answer] * 100)


def test_what_is_meant_for_a_registry_does_not_follow_to_another_host(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    with FaultRegistry() as storage:
        serve_same(storage, image)
        puller.hosts("registry.test", f'server = "{registry.url}"\n[header]\nX-Secret = "s"\n')
        ask_for_password(registry)
        registry.on(f"{BLOB}{digest}", to(storage.url))
        assert puller.pull(NAME, auth=AuthConfig(username="u", password="p")).id == image.id
        (asked,) = storage.requests
        assert asked.path.startswith(f"/v2/demo/blobs/{digest}")
        assert not {"authorization", "x-secret"} & {name.lower() for name in asked.headers}
        assert all(each.headers["X-Secret"] == "s" for each in registry.requests)
        assert registry.seen(blob(digest))[0].headers["Authorization"] == "Basic dTpw"


def serve_same(registry: FaultRegistry, image: TestImage) -> None:
    layout = Layout()
    registry.add("demo", "1", layout, layout.image(image, layers="none"))


def test_a_range_follows_a_redirect(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry)
    with FaultRegistry() as storage:
        serve_same(storage, image)
        registry.on(f"{BLOB}{digest}", cut(5000), to(storage.url))
        assert puller.pull(NAME).id == image.id
        assert storage.requests[0].headers["Range"] == "bytes=5000-"


def test_redirects_come_to_an_end(registry: FaultRegistry, puller: Puller) -> None:
    serve(registry)
    registry.on("GET", *[to(registry.url)] * 100)
    with pytest.raises(ImageError, match="redirects more than 10 times"):
        puller.pull(NAME)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "http://", "http://registry.example/x"])
def test_redirects_lead_only_to_what_is_as_safe(puller: Puller, tmp_path: Path, location: str) -> None:
    context, ca = tls(tmp_path)
    with FaultRegistry(context) as secure:
        serve(secure)
        secure.on("GET", *[Reply(302, {"Location": location})] * 20)
        puller.hosts("registry.test", f'server = "{secure.url}"\nca = "{ca}"\n')
        with pytest.raises(ImageError, match=r"redirects to .*(not encrypted|no URL)"):
            puller.pull(NAME)


def tls(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file of the authority to trust for it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, directory / "ca.pem"


# --- tokens ---------------------------------------------------------------------------------------


class Tokens:
    """A registry that wants bearer tokens, which the same server gives out; each is good for so many requests.

    distribution/distribution docs/spec/auth/token.md and oauth.md.
    """

    def __init__(self, registry: FaultRegistry, *, lasts: int = 1000, realm: str = "") -> None:
        self._left: dict[str, int] = {}
        self.given = 0
        self.lasts = lasts
        self.reply: Reply | None = None
        realm = realm or f"{registry.url}/token"
        self._challenge = f'Bearer realm="{realm}",service="the, registry",scope="repository:demo:pull"'
        registry.on("(GET|HEAD) /v2/", *[self._guard] * 1000)
        registry.on("(GET|POST) /token", *[self._give] * 1000)

    def _guard(self, request: Request, good: Reply) -> Reply:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._left.get(shown, 0) <= 0:
            return Reply(401, {"WWW-Authenticate": self._challenge})
        self._left[shown] -= 1
        return good

    def _give(self, request: Request, good: Reply) -> Reply:
        if self.reply is not None:
            return self.reply
        self.given += 1
        token = f"token-{self.given}"
        self._left[token] = self.lasts
        key = "access_token" if request.method == "POST" else "token"
        return Reply(body=json.dumps({key: token, "expires_in": 300}).encode())


def test_a_token_for_everybody(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    tokens = Tokens(registry)
    assert puller.pull(NAME).id == image.id
    assert tokens.given == 1
    (asked,) = registry.seen("GET /token")
    assert asked.path == "/token?service=the%2C+registry&scope=repository%3Ademo%3Apull"
    assert "Authorization" not in asked.headers


def test_a_token_for_a_user_name_and_its_end(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    tokens = Tokens(registry, lasts=1)
    assert puller.pull(NAME, auth=AuthConfig(auth="dTpw")).id == image.id
    assert tokens.given == len(registry.seen("/v2/")) - tokens.given == 3
    assert {each.headers["Authorization"] for each in registry.seen("GET /token")} == {"Basic dTpw"}


def test_an_identity_token_is_exchanged(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    Tokens(registry)
    assert puller.pull(NAME, auth=AuthConfig(identity_token="long & lived")).id == image.id
    (asked,) = registry.seen("POST /token")
    assert asked.body == (
        b"grant_type=refresh_token&client_id=podlite&scope=repository%3Ademo%3Apull&service=the%2C+registry"
        b"&refresh_token=long+%26+lived"
    )


def test_a_registrys_own_token_is_shown_as_it_is(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry)
    tokens = Tokens(registry)
    tokens._left["mine"] = 1000
    assert puller.pull(NAME, auth=AuthConfig(registry_token="mine")).id == image.id
    assert tokens.given == 0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(401), "answered 401: there is no such image, or it is not for everybody"),
        (Reply(404), "answered 404"),
        (Reply(body=b"{}"), "answered without a token"),
        (Reply(body=b'{"token": "a\\r\\nb"}'), "answered without a token"),
        (Reply(body=b"["), "answered with what is no token"),
        (Reply(body=b"[" * 500_000), "answered with what is no token"),
        (Reply(body=b"x" * 2_000_000), "has more than 1048576 bytes"),
        (Reply(body=b"x" * 2_000_000, length=False), "has more than 1048576 bytes"),
    ],
)
def test_token_servers_that_give_none(registry: FaultRegistry, puller: Puller, reply: Reply, message: str) -> None:
    serve(registry)
    Tokens(registry).reply = reply
    with pytest.raises(ImageError, match=message):
        puller.pull(NAME)


def test_a_token_that_is_never_enough_is_asked_for_a_few_times_only(registry: FaultRegistry, puller: Puller) -> None:
    serve(registry)
    tokens = Tokens(registry, lasts=0)
    with pytest.raises(ImageError, match="answered 401"):
        puller.pull(NAME)
    assert tokens.given <= 3


@pytest.mark.parametrize("realm", ["http://tokens.example/token", "ftp://x/", "nonsense"])
def test_a_password_is_not_sent_in_the_clear_for_a_registry_that_is_not(
    registry: FaultRegistry, puller: Puller, tmp_path: Path, realm: str
) -> None:
    context, ca = tls(tmp_path)
    with FaultRegistry(context) as secure:
        serve(secure)
        Tokens(secure, realm=realm)
        puller.hosts("registry.test", f'server = "{secure.url}"\nca = "{ca}"\n')
        with pytest.raises(ImageError, match=r"wants a token from .*, which is (not encrypted|no URL)"):
            puller.pull(NAME, auth=AuthConfig(username="u", password="p"))


# --- many at once, and cancelled ------------------------------------------------------------------------


def test_layers_come_three_at_a_time(registry: FaultRegistry, puller: Puller) -> None:
    """containerd's max_concurrent_downloads."""
    image, digests = serve(registry, *({f"data-{n}": os.urandom(1000)} for n in range(5)))
    go_on = threading.Event()
    for digest in digests:
        registry.on(blob(digest), hold(100, go_on))
    layers = "|".join(blob(digest) for digest in digests)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puller.apull, NAME)
            await anyio.to_thread.run_sync(registry.wait_for, layers, 3)
            # Whoever would ask for a fourth has had every chance to.
            for _ in range(20):
                await anyio.sleep(0.005)
            assert len(registry.seen(layers)) == 3
            go_on.set()

    anyio.run(scenario)
    assert len(registry.seen(layers)) == 5
    assert puller.store.images()[0].record.id == image.id


def test_two_pulls_of_one_image_share_the_work(registry: FaultRegistry, puller: Puller) -> None:
    image, digests = serve(registry, {"a": os.urandom(50_000)}, {"b": os.urandom(50_000)})
    go_on = threading.Event()
    registry.on(blob(digests[0]), hold(1000, go_on))

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(puller.apull, NAME)
            await anyio.to_thread.run_sync(registry.wait_for, "/manifests/1", 3)
            await anyio.to_thread.run_sync(registry.wait_for, blob(digests[1]), 1)
            go_on.set()

    anyio.run(scenario)
    assert [len(registry.seen(blob(digest))) for digest in digests] == [1, 1]
    assert puller.store.images()[0].record.id == image.id
    assert puller.left() == []


def test_two_processes_share_the_work(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry, {"a": os.urandom(3_000_000)})
    go_on = threading.Event()
    registry.on(blob(digest), hold(1_500_000, go_on))
    source = (
        "import sys; from tests.support.pulls import Puller; from pathlib import Path;"
        f"print(Puller(Path(sys.argv[1])).pull('{NAME}').id)"
    )
    command = [sys.executable, "-c", source, str(puller.certs.parent)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    registry.wait_for("/manifests/1", 2)
    registry.wait_for(blob(digest), 1)
    go_on.set()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert output.decode().strip() == image.id
    assert len(registry.seen(blob(digest))) == 1
    assert puller.left() == []


def test_who_is_cancelled_leaves_what_has_come_and_nothing_else(registry: FaultRegistry, puller: Puller) -> None:
    image, (digest,) = serve(registry, {"a": os.urandom(3_000_000)})
    never = threading.Event()
    registry.on(blob(digest), hold(2_000_000, never))
    partial = Path(puller.store.layout.ingest, digest.removeprefix("sha256:"))

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puller.apull, NAME)
            while not partial.exists() or not partial.stat().st_size:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    never.set()
    assert puller.store.images() == []
    assert os.listdir(puller.store.layout.work) == []
    size = partial.stat().st_size
    assert puller.pull(NAME).id == image.id
    assert registry.seen(blob(digest))[1].headers["Range"] == f"bytes={size}-"
    assert puller.left() == []


def test_the_wait_for_another_pull_can_be_cancelled_and_goes_on_when_that_one_is(
    registry: FaultRegistry, puller: Puller
) -> None:
    image, (digest,) = serve(registry, {"a": os.urandom(3_000_000)})
    never = threading.Event()
    registry.on(blob(digest), hold(2_000_000, never))
    done: list[str] = []

    async def one(scope: anyio.CancelScope) -> None:
        with scope:
            done.append((await puller.apull(NAME)).id)

    async def scenario() -> None:
        first, second, third = (anyio.CancelScope() for _ in range(3))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, first)
            await anyio.to_thread.run_sync(registry.wait_for, blob(digest), 1)
            tasks.start_soon(one, second)
            tasks.start_soon(one, third)
            await anyio.to_thread.run_sync(registry.wait_for, "/manifests/1", 3)
            second.cancel()
            first.cancel()

    anyio.run(scenario)
    never.set()
    assert done == [image.id]
    assert puller.left() == []


def test_a_cancellation_ends_the_unpacking(registry: FaultRegistry, puller: Puller) -> None:
    image, _ = serve(registry, {f"data-{n}": os.urandom(1000) for n in range(3000)})

    class Canceller(Silence):
        def __init__(self, scope: anyio.CancelScope) -> None:
            self.scope = scope

        def changed(self, layer: LayerState) -> None:
            if layer.stage == UNPACKING:
                self.scope.cancel()

    async def scenario() -> bool:
        with anyio.CancelScope() as scope:
            await puller.apull(NAME, progress=Canceller(scope))
        return scope.cancelled_caught

    assert anyio.run(scenario)
    assert puller.store.images() == []
    assert os.listdir(puller.store.layout.work) == []
    assert os.listdir(puller.store.layout.layers) == []
    assert puller.pull(NAME).id == image.id
    assert puller.left() == []


# --- this machine -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["image.resolve", "image.download", "image.unpack", "image.commit"])
def test_what_this_machine_refuses_is_no_fault_of_the_registry(
    registry: FaultRegistry, puller: Puller, step: str
) -> None:
    image, _ = serve(registry)
    steps.inject(step, "1*error(ENOSPC)")
    try:
        with pytest.raises(ImageError, match=r"the file system .* is full"):
            puller.pull(NAME)
    finally:
        steps.clear_faults()
    assert puller.store.images() == []
    assert puller.pull(NAME).id == image.id
    assert puller.left() == []


def test_a_proxy_is_used_but_not_for_loopback(
    registry: FaultRegistry, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Go's programs read HTTP_PROXY and NO_PROXY (golang.org/x/net/http/httpproxy)."""
    image, _ = serve(registry)
    with FaultRegistry() as proxy:
        serve_same(proxy, image)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert puller.pull(NAME).id == image.id
        assert proxy.requests == []
        puller.store.remove(image.id)
        puller.plain("registry.test", "http://registry.test")
        assert puller.pull(NAME).id == image.id
        assert proxy.requests[0].path == "http://registry.test/v2/demo/manifests/1"


def test_a_manifest_that_drips_is_given_up(registry: FaultRegistry, puller: Puller) -> None:
    serve(registry)
    never = threading.Event()
    registry.on("GET .*/manifests/", *[hold(5, never)] * 5)
    try:
        with pytest.raises(ImageError, match="has sent nothing for"):
            puller.pull(NAME, policy=RetryPolicy(attempts=2, first=0.01, stall=0.1))
    finally:
        never.set()


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["nothing", "cancel"])
async def test_the_event_loop_never_stands_still(registry: FaultRegistry, puller: Puller, what: str) -> None:
    """blockbuster raises where something blocks on the loop's thread."""
    image, (digest,) = serve(registry, {"a": os.urandom(2_000_000)})
    with blockbuster_ctx(scanned_modules=["podlite"]):
        assert (await puller.apull(NAME)).id == image.id
        await anyio.to_thread.run_sync(puller.store.remove, image.id)
        never = threading.Event()
        if what == "cancel":
            registry.on(blob(digest), hold(1_500_000, never))
            with anyio.move_on_after(0.2):
                await puller.apull(NAME)
            never.set()
        assert (await puller.apull(NAME)).id == image.id
