"""Names of images: parse what a user writes, and spell it in full. Pure.

After the grammar of distribution/reference: [domain/]path[:tag][@digest]. "nginx" means
docker.io/library/nginx:latest.
"""

from __future__ import annotations

import re

from msgspec import Struct

from .interface import RuntimeFailure

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_LENGTH_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"^{_COMPONENT}(?:/{_COMPONENT})*\Z")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"^(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\Z")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}\Z")
_ID = re.compile(r"^[0-9a-f]{64}\Z")


class InvalidReference(RuntimeFailure, ValueError):
    """Not the name of an image."""


class Reference(Struct, frozen=True):
    """A full name. `tag` is "" when only a digest was given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """With the tag alone; "" when there is none."""
        return f"{self.repository}:{self.tag}" if self.tag else ""

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest before the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> str:
        return f"{self.repository}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """Raises InvalidReference, with the text upstream's kubelet shows."""
    name, at, digest = text.partition("@")
    tag = ""
    last_slash = name.rfind("/")
    colon = name.find(":", last_slash + 1)
    if colon >= 0:
        name, tag = name[:colon], name[colon + 1 :]
        if not _TAG.match(tag):
            raise _invalid(text)
    if at and not _DIGEST.match(digest):
        raise _invalid(text, "unsupported digest algorithm" if ":" in digest else "")
    domain, path = _split(name)
    if path != path.lower():
        raise _invalid(text, "repository name must be lowercase")
    full = f"{domain}/{path}"
    if not (_PATH.match(path) and _DOMAIN.match(domain)) or len(full) > NAME_LENGTH_MAX:
        raise _invalid(text)
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _split(name: str) -> tuple[str, str]:
    """A first part with a dot, a port or capitals, or "localhost", is the registry."""
    first, slash, rest = name.partition("/")
    if not slash or not (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    ):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _invalid(text: str, why: str = "") -> InvalidReference:
    return InvalidReference(
        f'couldn\'t parse image name "{text}": invalid reference format{": " if why else ""}{why}'
    )


def is_id(text: str) -> bool:
    """Whether the text is an image id, with or without its algorithm."""
    return bool(_ID.match(text.removeprefix("sha256:")))


def is_repository(text: str) -> bool:
    """Whether the text is a repository's name within a registry."""
    return bool(_PATH.match(text)) and len(text) <= NAME_LENGTH_MAX


def is_tag(text: str) -> bool:
    return bool(_TAG.match(text))


def is_digest(text: str) -> bool:
    return bool(_DIGEST.match(text))
