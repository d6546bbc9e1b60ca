"""Which form of an answer an Accept header asks for.

Source: RFC 9110 section 12.5.1, and k8s.io/apiserver/pkg/endpoints/handlers/negotiation, Kubernetes 1.36.
"""

from __future__ import annotations

import pytest

from podlite.agent.api.errors import ApiError
from podlite.agent.api.negotiate import AS_IT_IS, Form, negotiate
from podlite.agent.api.representation import Representation
from podlite.api.pod import Pod

TABLE = Form("Table", "v1")
V1 = "application/json;as=Table;v=v1;g=meta.k8s.io"
V1BETA1 = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", AS_IT_IS),
        ("*/*", AS_IT_IS),
        ("*", AS_IT_IS),
        ("application/*", AS_IT_IS),
        ("application/json", AS_IT_IS),
        ("application/json;stream=watch", AS_IT_IS),
        ("text/html, */*;q=0.1", AS_IT_IS),
        ("application/vnd.kubernetes.protobuf,application/json", AS_IT_IS),
        # What kubectl get asks for.
        (f"{V1},{V1BETA1},application/json", TABLE),
        (f"{V1BETA1},application/json", Form("Table", "v1beta1")),
        (" application/json ; as=Table ; v=v1 ; g=meta.k8s.io ", TABLE),
        ("Application/JSON;as=Table;v=v1;g=meta.k8s.io", TABLE),
        (f"application/json;q=0.5,{V1}", TABLE),
        (f"{V1};q=0.5,application/json", AS_IT_IS),
        (f"{V1};q=0,application/json;q=0.1", AS_IT_IS),
        (f"*/*,{V1}", TABLE),  # what names more goes first
        # A Table is not known in that form, so the next is taken.
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", AS_IT_IS),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", AS_IT_IS),
        ("application/json;as=Chart;v=v1;g=meta.k8s.io,application/json", AS_IT_IS),
        ("application/json;as=Table;v=v1;g=other,application/json", AS_IT_IS),
        ("nonsense,,a/b/c,application/json;q=x,application/json", AS_IT_IS),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Form("PartialObjectMetadataList", "v1")),
    ],
)
def test_what_is_wanted(accept: str, form: Form) -> None:
    assert negotiate(accept) == form


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/json;q=0",
        "application/json;as=Table;v=v2;g=meta.k8s.io",
        "application/yaml",
        "nonsense",
    ],
)
def test_what_there_is_not(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate(accept)
    assert (caught.value.code, caught.value.status.reason) == (406, "NotAcceptable")
    assert caught.value.message == "only the following media types are accepted: application/json"


def a_pod() -> Pod:
    pod = Pod()
    pod.metadata.name, pod.metadata.resource_version = "web", "7"
    pod.status.phase = "Running"
    return pod


def test_what_a_row_carries() -> None:
    """TableOptions.IncludeObject: Metadata is the default; with None the object is null (runtime.RawExtension)."""
    pod = a_pod()
    table = Representation("Pod", TABLE).one(pod)
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "7"},
    )
    (row,) = table["rows"]
    assert row["object"] == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": pod.metadata}
    assert "conditions" not in row
    assert Representation("Pod", TABLE, "Object").one(pod)["rows"][0]["object"] is pod
    assert Representation("Pod", TABLE, "None").one(pod)["rows"][0]["object"] is None
    beta = Representation("Pod", Form("Table", "v1beta1")).many([pod], "9")
    assert (beta["apiVersion"], beta["metadata"]) == ("meta.k8s.io/v1beta1", {"resourceVersion": "9"})
    assert beta["rows"][0]["object"]["apiVersion"] == "meta.k8s.io/v1beta1"


def test_columns_are_said_once() -> None:
    """response.go, watchEmbeddedEncoder: only a watch's first table has them."""
    tables = Representation("Pod", TABLE)
    assert len(tables.one(a_pod())["columnDefinitions"]) == 9
    assert tables.one(a_pod())["columnDefinitions"] is None
    assert tables.bookmark("8")["columnDefinitions"] is None


def test_a_bookmark_is_a_table_too() -> None:
    bookmark = Representation("Pod", TABLE).bookmark("8")
    assert bookmark["metadata"] == {"resourceVersion": "8"}
    assert len(bookmark["rows"]) == 1
    assert bookmark["rows"][0]["object"]["metadata"].resource_version == "8"
    assert Representation("Pod").bookmark("8")["kind"] == "Pod"


def test_lists_and_single_objects_are_not_the_same_form() -> None:
    partial = Representation("Pod", Form("PartialObjectMetadata", "v1"))
    assert partial.one(a_pod())["kind"] == "PartialObjectMetadata"
    partial.check_watched()
    lists = Representation("Pod", Form("PartialObjectMetadataList", "v1"))
    whole = lists.many([a_pod()], "9")
    assert (whole["kind"], [each["kind"] for each in whole["items"]]) == (
        "PartialObjectMetadataList",
        ["PartialObjectMetadata"],
    )
    for refused in (lambda: partial.many([], "9"), lambda: lists.one(a_pod()), lists.check_watched):
        with pytest.raises(ApiError) as caught:
            refused()
        assert caught.value.code == 406
