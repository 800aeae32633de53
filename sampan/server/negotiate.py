"""Which form of an answer the client takes: JSON or YAML, the object, its metadata or a Table."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sampan.api.errors import NotAcceptable

JSON = "application/json"
YAML = "application/yaml"
JSON_TYPES = frozenset({"application/json", "application/*", "*/*", "text/json"})
YAML_TYPES = frozenset({"application/yaml", "text/yaml", "application/x-yaml"})
META_VERSIONS = frozenset({"v1", "v1beta1"})


class Form(NamedTuple):
    """How to write an answer. Hashable: watch lines are shared by form."""

    media: str = JSON
    convert: str = ""
    """"" (as it is), "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"."""
    version: str = "v1"
    """Version of meta.k8s.io for converted forms."""

    @property
    def plain(self) -> bool:
        """Stored bytes can be sent as they are."""
        return self.media == JSON and not self.convert

    @property
    def partial(self) -> bool:
        return self.convert.startswith("PartialObjectMetadata")


PLAIN = Form()


def form_of(accept: str) -> Form:
    """The first form of an Accept header that we serve, by quality. Raises NotAcceptable."""
    if not accept or accept == JSON or accept == "*/*":
        return PLAIN
    form = _parse(accept)
    if form is None:
        raise NotAcceptable(
            f"only the following media types are accepted: {', '.join((JSON, YAML))}"
        )
    return form


def require_own_form(accept: str) -> None:
    """For answers that are no object of a collection (reviews, tokens, bindings): they have no
    table, as upstream's. Raises NotAcceptable for a client that takes nothing else."""
    if "as=" in accept:
        form_of(",".join(clause for clause in accept.split(",") if "as=" not in clause) or "-")


def watch_form_of(accept: str) -> Form:
    """The same for a watch, which only has a form in JSON, as upstream (there protobuf too)."""
    form = form_of(accept)
    if form.media != JSON:
        raise NotAcceptable(f"only the following media types are accepted: {JSON};stream=watch")
    return form


@lru_cache(maxsize=256)
def _parse(accept: str) -> Form | None:
    clauses = []
    for position, clause in enumerate(accept.split(",")):
        media, *params = (part.strip() for part in clause.split(";"))
        values = {}
        for param in params:
            name, sign, value = param.partition("=")
            if sign:
                values[name.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(values.get("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            # Of equal quality, what is named goes before what is only covered by a star.
            clauses.append((-quality, media.count("*"), position, media.lower(), values))
    for *_, media, values in sorted(clauses, key=lambda item: item[:3]):
        form = _form(media, values)
        if form is not None:
            return form
    return None


def _form(media: str, values: dict[str, str]) -> Form | None:
    if media in JSON_TYPES:
        encoding = JSON
    elif media in YAML_TYPES:
        encoding = YAML
    else:
        return None
    convert = values.get("as", "")
    if not convert:
        return Form(encoding)
    if convert not in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
        return None
    if values.get("g") != "meta.k8s.io" or values.get("v") not in META_VERSIONS:
        return None
    return Form(encoding, convert, values["v"])
