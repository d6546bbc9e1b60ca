"""In which form a client wants its answer, by its Accept header: as it is, as a Table, or the metadata only. Pure.

Source: k8s.io/apiserver/pkg/endpoints/handlers/negotiation/negotiate.go and RFC 9110 section 12.5.1.
"""

from __future__ import annotations

from typing import NamedTuple

from podlite.agent.api.errors import ApiError

TABLE = "Table"
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
# Answers are JSON only.
_MEDIA_TYPES = "application/json"


class Form(NamedTuple):
    """`kind` is empty for the objects as they are, or one of those above, in a version of meta.k8s.io."""

    kind: str = ""
    version: str = ""

    @property
    def api_version(self) -> str:
        return f"meta.k8s.io/{self.version}"


AS_IT_IS = Form()


class _Clause(NamedTuple):
    type: str
    subtype: str
    parameters: dict[str, str]
    quality: float


def negotiate(accept: str) -> Form:
    """The most wanted form that there is. Raises ApiError (NotAcceptable)."""
    if not accept.strip():
        return AS_IT_IS
    clauses = [found for text in accept.split(",") if (found := _read(text)) is not None and found.quality > 0]
    # The better first; of equally good ones those that name more, and then those that come first.
    clauses.sort(key=lambda each: (-each.quality, each.type == "*", each.subtype == "*"))
    for each in clauses:
        if (each.type, each.subtype) in (("application", "json"), ("application", "*"), ("*", "*")):
            form = _form(each.parameters)
            if form is not None:
                return form
    raise not_acceptable(f"only the following media types are accepted: {_MEDIA_TYPES}")


def not_acceptable(message: str) -> ApiError:
    return ApiError(406, "NotAcceptable", message)


def _read(text: str) -> _Clause | None:
    """None for what is no media range, which is passed over."""
    whole, *given = (each.strip() for each in text.split(";"))
    type, slash, subtype = whole.partition("/")
    if not slash:
        type, subtype = ("*", "*") if type == "*" else ("", "")
    if not type or not subtype or "/" in subtype:
        return None
    parameters = {
        name.strip(): value.strip() for name, equals, value in (each.partition("=") for each in given) if equals
    }
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        quality = 0.0
    return _Clause(type.strip().lower(), subtype.strip().lower(), parameters, quality)


def _form(parameters: dict[str, str]) -> Form | None:
    """None for a form that there is not."""
    if parameters.get("stream", "watch") not in ("", "watch") or parameters.get("sv", "v1") not in ("", "v1"):
        return None
    if not {"as", "g", "v"} & parameters.keys():
        return AS_IT_IS
    kind, version = parameters.get("as", ""), parameters.get("v", "")
    if parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    return Form(kind, version) if kind in (TABLE, PARTIAL, PARTIAL_LIST) else None
