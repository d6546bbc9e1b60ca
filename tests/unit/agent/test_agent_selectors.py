"""Label and field selectors.

Source of the cases: k8s.io/apimachinery/pkg/labels/selector_test.go and the Kubernetes documentation, "Labels and
Selectors" and "Field Selectors".
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.agent.api.errors import ApiError
from podlite.agent.api.selectors import field_selector, label_selector
from tests.support.pods import a_pod

LABELS = {"environment": "production", "tier": "frontend", "app.kubernetes.io/name": "web", "n": "5"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("environment=production", True),
        ("environment==production", True),
        ("environment = production , tier=frontend", True),
        ("environment!=production", False),
        ("other!=anything", True),
        ("environment in (production, qa)", True),
        ("environment in (qa)", False),
        ("tier notin (frontend,backend)", False),
        ("other notin (a)", True),
        ("tier", True),
        ("!tier", False),
        ("!other", True),
        ("app.kubernetes.io/name=web", True),
        ("n>4,n<6", True),
        ("n>5", False),
        ("tier>1", False),
        ("environment=production,tier in (backend)", False),
        ("environment=", False),
    ],
)
def test_labels(selector: str, matches: bool) -> None:
    assert label_selector(selector)(LABELS) is matches


@pytest.mark.parametrize("selector", ["a=b=c", "=b", "a in b", "a in (b", ",", "a=b,", "a ~ b", "a in (!)", "-a=b"])
def test_what_is_no_label_selector(selector: str) -> None:
    with pytest.raises(ApiError) as caught:
        label_selector(selector)
    assert (caught.value.code, caught.value.status.reason) == (400, "BadRequest")


@given(st.text(max_size=200))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    for read in (label_selector, lambda text: field_selector("pods", text)):
        try:
            read(text)
        except ApiError as error:
            assert error.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("metadata.name=web", True),
        ("metadata.name!=web", False),
        ("status.phase=Running,spec.restartPolicy=Always", False),
        ("status.phase!=Running,spec.restartPolicy=Always", True),
        ("metadata.namespace==default", True),
        (r"metadata.name=we\,b", False),
    ],
)
def test_fields(selector: str, matches: bool) -> None:
    assert field_selector("pods", selector)(a_pod()) is matches


def test_a_field_that_cannot_be_selected_by() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.containers"):
        field_selector("pods", "spec.containers=1")
