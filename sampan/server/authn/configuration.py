"""The administrator's AuthenticationConfiguration (apiserver.config.k8s.io/v1), read and checked.

Pure but for `read`. Whatever is wrong is told with the path of the field, before anything is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from .. import documents
from ..documents import BadDocument, mapping, text
from .openid import DISCOVERY

NAME = "authentication.yaml"
VERSIONS = (
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
)
KIND = "AuthenticationConfiguration"
MAX_JWT = 64
"""As upstream: each issuer is one more place to ask."""


class Source(Struct, frozen=True):
    """Where a value comes from: a claim with a prefix, or an expression."""

    claim: str = ""
    prefix: str = ""
    expression: str = ""

    def __bool__(self) -> bool:
        return bool(self.claim or self.expression)


class Rule(Struct, frozen=True):
    """A claim that must have a value, or an expression that must hold."""

    claim: str = ""
    value: str = ""
    expression: str = ""
    message: str = ""


class Issuer(Struct, frozen=True):
    """One issuer of tokens and what its claims mean here."""

    url: str
    audiences: Sequence[str]
    username: Source
    groups: Source = Source()
    uid: Source = Source()
    extra: Sequence[tuple[str, str]] = ()
    """(key, expression)"""
    discovery_url: str = ""
    ca: bytes = b""
    claim_rules: Sequence[Rule] = ()
    user_rules: Sequence[Rule] = ()

    @property
    def document(self) -> str:
        """Where the issuer says where its keys are."""
        return self.discovery_url or self.url.rstrip("/") + DISCOVERY


class Anonymous(Struct, frozen=True):
    """Whether requests without credentials are served: all, none, or those for these paths."""

    enabled: bool = True
    paths: frozenset[str] | None = None

    def allows(self, path: str) -> bool:
        return self.enabled and (self.paths is None or path in self.paths)


class Authentication(Struct, frozen=True):
    """What the file says; without a file, nothing."""

    issuers: Sequence[Issuer] = ()
    anonymous: Anonymous = Anonymous()


def read(path: Path, own_issuer: str) -> Authentication:
    """The configuration in `path`; the default if there is no file. Raises BadDocument."""
    found = documents.load(path, partial(parse, own_issuer=own_issuer))
    return Authentication() if found is None else found


def parse(raw: Any, own_issuer: str = "") -> Authentication:
    """The configuration in a decoded file. `own_issuer` is this cluster's: nobody else's tokens
    may claim to be ours. Raises BadDocument."""
    top = documents.versioned(raw, VERSIONS, KIND, ("jwt", "anonymous"))
    items = documents.items(top.get("jwt"), "jwt")
    if len(items) > MAX_JWT:
        raise BadDocument(f"jwt: must have at most {MAX_JWT} items")
    issuers = tuple(_issuer(item, f"jwt[{at}]") for at, item in enumerate(items))
    seen: set[str] = {own_issuer}
    for at, issuer in enumerate(issuers):
        if issuer.url in seen:
            raise BadDocument(f"jwt[{at}].issuer.url: Duplicate value: {issuer.url}")
        seen.add(issuer.url)
    return Authentication(issuers, _anonymous(top.get("anonymous")))


def _anonymous(raw: Any) -> Anonymous:
    if raw is None:
        return Anonymous()
    found = mapping(raw, "anonymous", ("enabled", "conditions"))
    enabled = documents.flag(found, "enabled", "anonymous", False)
    conditions = found.get("conditions")
    if not conditions:
        return Anonymous(enabled)
    if not enabled:
        raise BadDocument(
            "anonymous.conditions: enabled should be set to true when conditions are defined"
        )
    paths = [
        text(mapping(item, f"anonymous.conditions[{at}]", ("path",)), "path", "anonymous")
        for at, item in enumerate(documents.items(conditions, "anonymous.conditions"))
    ]
    return Anonymous(True, frozenset(paths))


def _issuer(raw: Any, path: str) -> Issuer:
    found = mapping(
        raw, path, ("issuer", "claimValidationRules", "claimMappings", "userValidationRules")
    )
    issuer = mapping(
        found.get("issuer"),
        f"{path}.issuer",
        (
            "url",
            "discoveryURL",
            "certificateAuthority",
            "audiences",
            "audienceMatchPolicy",
            "egressSelectorType",
        ),
    )
    url = _https(text(issuer, "url", f"{path}.issuer"), f"{path}.issuer.url")
    discovery = issuer.get("discoveryURL") or ""
    if discovery:
        _https(discovery, f"{path}.issuer.discoveryURL")
        if discovery.rstrip("/") == url.rstrip("/") + DISCOVERY:
            raise BadDocument(f"{path}.issuer.discoveryURL: must be different from the URL's own")
    audiences = [
        str(item) for item in documents.items(issuer.get("audiences"), f"{path}.issuer.audiences")
    ]
    policy = issuer.get("audienceMatchPolicy") or ""
    if not audiences or not all(audiences):
        raise BadDocument(f"{path}.issuer.audiences: Required value: at least one")
    if policy not in ("", "MatchAny") or (len(audiences) > 1 and not policy):
        raise BadDocument(
            f"{path}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences"
        )
    mappings = mapping(
        found.get("claimMappings"),
        f"{path}.claimMappings",
        ("username", "groups", "uid", "extra"),
    )
    made = Issuer(
        url=url,
        discovery_url=discovery,
        ca=_pem(issuer.get("certificateAuthority"), f"{path}.issuer.certificateAuthority"),
        audiences=audiences,
        username=_value(mappings.get("username"), f"{path}.claimMappings.username", True),
        groups=_value(mappings.get("groups"), f"{path}.claimMappings.groups", True),
        uid=_value(mappings.get("uid"), f"{path}.claimMappings.uid", False),
        extra=tuple(_extra(mappings.get("extra"), f"{path}.claimMappings.extra")),
        claim_rules=tuple(
            _rules(found.get("claimValidationRules"), f"{path}.claimValidationRules", True)
        ),
        user_rules=tuple(
            _rules(found.get("userValidationRules"), f"{path}.userValidationRules", False)
        ),
    )
    if not made.username:
        raise BadDocument(
            f"{path}.claimMappings.username: Required value: claim or expression is required"
        )
    _check_email(made, f"{path}.claimMappings.username.expression")
    return made


def _check_email(issuer: Issuer, path: str) -> None:
    """An address that nobody has verified is nobody's name."""
    texts = [rule.expression for rule in issuer.claim_rules]
    texts += [issuer.username.expression, *(said for _, said in issuer.extra)]
    if "claims.email" in issuer.username.expression and not any(
        "claims.email_verified" in said for said in texts
    ):
        raise BadDocument(
            f"{path}: claims.email_verified must be used in claimMappings.username.expression or"
            " claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when"
            " claims.email is used in claimMappings.username.expression"
        )


def _value(raw: Any, path: str, prefixed: bool) -> Source:
    if raw is None:
        return Source()
    found = mapping(raw, path, ("claim", "prefix", "expression"))
    claim, expression = found.get("claim") or "", found.get("expression") or ""
    prefix = found.get("prefix")
    if claim and expression:
        raise BadDocument(f"{path}: claim and expression can't both be set")
    if expression and prefix is not None:
        raise BadDocument(f"{path}.prefix: prefix is not allowed when expression is set")
    if claim and prefixed and prefix is None:
        raise BadDocument(
            f"{path}.prefix: Required value: prefix is required when claim is set. It can be set"
            " to an empty string to disable prefixing"
        )
    return Source(str(claim), str(prefix or ""), str(expression))


def _extra(raw: Any, path: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for at, item in enumerate(documents.items(raw, path)):
        where = f"{path}[{at}]"
        found = mapping(item, where, ("key", "valueExpression"))
        key = text(found, "key", where)
        domain, slash, rest = key.partition("/")
        if not slash or not rest or "." not in domain or key != key.lower():
            raise BadDocument(f"{where}.key: must be a lower-case path with a domain: {key}")
        if domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io")):
            raise BadDocument(f"{where}.key: domain prefix {domain} is reserved")
        if key in seen:
            raise BadDocument(f"{where}.key: Duplicate value: {key}")
        seen.add(key)
        yield key, text(found, "valueExpression", where)


def _rules(raw: Any, path: str, by_claim: bool) -> Iterator[Rule]:
    fields = ("claim", "requiredValue", "expression", "message")
    for at, item in enumerate(documents.items(raw, path)):
        where = f"{path}[{at}]"
        found = mapping(item, where, fields if by_claim else fields[2:])
        claim, expression = str(found.get("claim") or ""), str(found.get("expression") or "")
        if bool(claim) == bool(expression):
            raise BadDocument(f"{where}: one of claim and expression is required")
        message, value = str(found.get("message") or ""), str(found.get("requiredValue") or "")
        if (claim and message) or (expression and value):
            raise BadDocument(f"{where}: message goes with expression, requiredValue with claim")
        yield Rule(claim, value, expression, message)


def _https(url: Any, path: str) -> str:
    parts = urlsplit(str(url))
    if parts.scheme != "https" or not parts.hostname:
        raise BadDocument(f"{path}: URL scheme must be https: {url}")
    if parts.username or parts.query or parts.fragment:
        raise BadDocument(f"{path}: must have no user, query or fragment: {url}")
    return str(url)


def _pem(raw: Any, path: str) -> bytes:
    if not raw:
        return b""
    if not isinstance(raw, str) or "BEGIN CERTIFICATE" not in raw:
        raise BadDocument(f"{path}: not a PEM bundle of certificates")
    return raw.encode()
