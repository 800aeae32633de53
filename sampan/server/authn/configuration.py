"""The administrator's AuthenticationConfiguration (apiserver.config.k8s.io/v1), read and checked.

Pure but for `read`. Whatever is wrong is told with the path of the field, before anything is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

NAME = "authentication.yaml"
VERSIONS = (
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
)
KIND = "AuthenticationConfiguration"
MAX_JWT = 64
"""As upstream: each issuer is one more place to ask."""
DISCOVERY = "/.well-known/openid-configuration"


class BadConfiguration(ValueError):
    """The file is no good; the text says where."""


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
    """The configuration in `path`; the default if there is no file. Raises BadConfiguration."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Authentication()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path}: {error}") from error
    import yaml

    try:
        raw = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{path}: not YAML: {error}") from error
    try:
        return parse(raw, own_issuer)
    except BadConfiguration as error:
        raise BadConfiguration(f"{path}: {error}") from None


def parse(raw: Any, own_issuer: str = "") -> Authentication:
    """The configuration in a decoded file. `own_issuer` is this cluster's: nobody else's tokens
    may claim to be ours. Raises BadConfiguration."""
    top = _mapping(raw, "", ("apiVersion", "kind", "jwt", "anonymous"))
    if top.get("apiVersion") not in VERSIONS or top.get("kind") != KIND:
        raise BadConfiguration(f"apiVersion and kind must be {VERSIONS[0]} and {KIND}")
    items = _list(top.get("jwt"), "jwt")
    if len(items) > MAX_JWT:
        raise BadConfiguration(f"jwt: must have at most {MAX_JWT} items")
    issuers = tuple(_issuer(item, f"jwt[{at}]") for at, item in enumerate(items))
    seen: set[str] = {own_issuer}
    for at, issuer in enumerate(issuers):
        if issuer.url in seen:
            raise BadConfiguration(f"jwt[{at}].issuer.url: Duplicate value: {issuer.url}")
        seen.add(issuer.url)
    return Authentication(issuers, _anonymous(top.get("anonymous")))


def _anonymous(raw: Any) -> Anonymous:
    if raw is None:
        return Anonymous()
    found = _mapping(raw, "anonymous", ("enabled", "conditions"))
    enabled = found.get("enabled", False)
    if not isinstance(enabled, bool):
        raise BadConfiguration("anonymous.enabled: must be true or false")
    conditions = found.get("conditions")
    if not conditions:
        return Anonymous(enabled)
    if not enabled:
        raise BadConfiguration(
            "anonymous.conditions: enabled should be set to true when conditions are defined"
        )
    paths = [
        _text(_mapping(item, f"anonymous.conditions[{at}]", ("path",)), "path", "anonymous")
        for at, item in enumerate(_list(conditions, "anonymous.conditions"))
    ]
    return Anonymous(True, frozenset(paths))


def _issuer(raw: Any, path: str) -> Issuer:
    found = _mapping(
        raw, path, ("issuer", "claimValidationRules", "claimMappings", "userValidationRules")
    )
    issuer = _mapping(
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
    url = _https(_text(issuer, "url", f"{path}.issuer"), f"{path}.issuer.url")
    discovery = issuer.get("discoveryURL") or ""
    if discovery:
        _https(discovery, f"{path}.issuer.discoveryURL")
        if discovery.rstrip("/") == url.rstrip("/") + DISCOVERY:
            raise BadConfiguration(
                f"{path}.issuer.discoveryURL: must be different from the URL's own"
            )
    audiences = [str(item) for item in _list(issuer.get("audiences"), f"{path}.issuer.audiences")]
    policy = issuer.get("audienceMatchPolicy") or ""
    if not audiences or not all(audiences):
        raise BadConfiguration(f"{path}.issuer.audiences: Required value: at least one")
    if policy not in ("", "MatchAny") or (len(audiences) > 1 and not policy):
        raise BadConfiguration(
            f"{path}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences"
        )
    mappings = _mapping(
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
        raise BadConfiguration(
            f"{path}.claimMappings.username: Required value: claim or expression is required"
        )
    _check_email(made, f"{path}.claimMappings.username.expression")
    return made


def _check_email(issuer: Issuer, path: str) -> None:
    """An address that nobody has verified is nobody's name."""
    texts = [rule.expression for rule in issuer.claim_rules]
    texts += [issuer.username.expression, *(text for _, text in issuer.extra)]
    if "claims.email" in issuer.username.expression and not any(
        "claims.email_verified" in text for text in texts
    ):
        raise BadConfiguration(
            f"{path}: claims.email_verified must be used in claimMappings.username.expression or"
            " claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when"
            " claims.email is used in claimMappings.username.expression"
        )


def _value(raw: Any, path: str, prefixed: bool) -> Source:
    if raw is None:
        return Source()
    found = _mapping(raw, path, ("claim", "prefix", "expression"))
    claim, expression = found.get("claim") or "", found.get("expression") or ""
    prefix = found.get("prefix")
    if claim and expression:
        raise BadConfiguration(f"{path}: claim and expression can't both be set")
    if expression and prefix is not None:
        raise BadConfiguration(f"{path}.prefix: prefix is not allowed when expression is set")
    if claim and prefixed and prefix is None:
        raise BadConfiguration(
            f"{path}.prefix: Required value: prefix is required when claim is set. It can be set"
            " to an empty string to disable prefixing"
        )
    return Source(str(claim), str(prefix or ""), str(expression))


def _extra(raw: Any, path: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for at, item in enumerate(_list(raw, path)):
        where = f"{path}[{at}]"
        found = _mapping(item, where, ("key", "valueExpression"))
        key = _text(found, "key", where)
        domain, slash, rest = key.partition("/")
        if not slash or not rest or "." not in domain or key != key.lower():
            raise BadConfiguration(f"{where}.key: must be a lower-case path with a domain: {key}")
        if domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io")):
            raise BadConfiguration(f"{where}.key: domain prefix {domain} is reserved")
        if key in seen:
            raise BadConfiguration(f"{where}.key: Duplicate value: {key}")
        seen.add(key)
        yield key, _text(found, "valueExpression", where)


def _rules(raw: Any, path: str, by_claim: bool) -> Iterator[Rule]:
    fields = ("claim", "requiredValue", "expression", "message")
    for at, item in enumerate(_list(raw, path)):
        where = f"{path}[{at}]"
        found = _mapping(item, where, fields if by_claim else fields[2:])
        claim, expression = str(found.get("claim") or ""), str(found.get("expression") or "")
        if bool(claim) == bool(expression):
            raise BadConfiguration(f"{where}: one of claim and expression is required")
        message, value = str(found.get("message") or ""), str(found.get("requiredValue") or "")
        if (claim and message) or (expression and value):
            raise BadConfiguration(
                f"{where}: message goes with expression, requiredValue with claim"
            )
        yield Rule(claim, value, expression, message)


def _https(url: Any, path: str) -> str:
    parts = urlsplit(str(url))
    if parts.scheme != "https" or not parts.hostname:
        raise BadConfiguration(f"{path}: URL scheme must be https: {url}")
    if parts.username or parts.query or parts.fragment:
        raise BadConfiguration(f"{path}: must have no user, query or fragment: {url}")
    return str(url)


def _pem(raw: Any, path: str) -> bytes:
    if not raw:
        return b""
    if not isinstance(raw, str) or "BEGIN CERTIFICATE" not in raw:
        raise BadConfiguration(f"{path}: not a PEM bundle of certificates")
    return raw.encode()


def _mapping(raw: Any, path: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise BadConfiguration(f"{path or 'the file'}: must be an object")
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise BadConfiguration(f"unknown field {f'{path}.{unknown[0]}'.lstrip('.')}")
    return raw


def _list(raw: Any, path: str) -> Sequence[Any]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise BadConfiguration(f"{path}: must be a list")
    return raw


def _text(found: Mapping[str, Any], field: str, path: str) -> str:
    value = found.get(field)
    if not isinstance(value, str) or not value:
        raise BadConfiguration(f"{path}.{field}: Required value")
    return value
