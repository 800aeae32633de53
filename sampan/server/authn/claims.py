"""What an issuer's claims mean here: a user, by plain claims or by expressions. No I/O.

Texts are upstream's (apiserver/plugin/pkg/authenticator/token/oidc). Expressions are compiled when
the configuration is read; the CEL modules are loaded only if there are some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.api.principals import AUTHENTICATED

from ..documents import BadDocument
from ..exchange import User
from .configuration import Issuer, Rule, Source
from .jwt import BadToken

if TYPE_CHECKING:
    from sampan.api.cel import Program


class Claims:
    """Makes users of one issuer's verified claims."""

    def __init__(self, issuer: Issuer) -> None:
        """Raises BadDocument for an expression that is no good."""
        self._issuer = issuer
        self._username = _compile(issuer.username.expression, "claims", "string")
        self._groups = _compile(issuer.groups.expression, "claims", "list")
        self._uid = _compile(issuer.uid.expression, "claims", "string")
        self._extra = [(key, _compile(text, "claims", "list")) for key, text in issuer.extra]
        self._rules = [
            (rule, _compile(rule.expression, "claims", "bool")) for rule in issuer.claim_rules
        ]
        self._user_rules = [
            (rule, _compile(rule.expression, "user", "bool")) for rule in issuer.user_rules
        ]

    def user_of(self, claims: Mapping[str, Any]) -> User:
        """The user that verified claims stand for. Raises BadToken."""
        issuer = self._issuer
        name = self._name(claims)
        groups = [*self._list(issuer.groups, self._groups, claims, "groups")]
        uid = ""
        if self._uid is not None:
            uid = _string(self._uid, claims, "uid")
        elif issuer.uid.claim:
            uid = _claim(claims, issuer.uid.claim)
        for rule, program in self._rules:
            _hold(rule, program, {"claims": claims}, claims)
        extra = {
            key: values
            for key, program in self._extra
            if program is not None and (values := tuple(_strings(_run(program, claims), key)))
        }
        if self._user_rules:
            info = {
                "username": name,
                "groups": groups,
                "uid": uid,
                "extra": {key: [*values] for key, values in extra.items()},
            }
            for rule, program in self._user_rules:
                _hold(rule, program, {"user": info}, {})
        if AUTHENTICATED not in groups:
            groups.append(AUTHENTICATED)
        return User(name, tuple(groups), uid, extra)

    def _name(self, claims: Mapping[str, Any]) -> str:
        source = self._issuer.username
        if self._username is not None:
            name = _string(self._username, claims, "username")
            if not name:
                raise BadToken("oidc: empty username via CEL expression is not allowed")
            return name
        if source.claim == "email" and claims.get("email_verified", True) is not True:
            raise BadToken("oidc: email not verified")
        return source.prefix + _claim(claims, source.claim)

    def _list(
        self, source: Source, program: Program | None, claims: Mapping[str, Any], what: str
    ) -> Iterator[str]:
        if program is not None:
            yield from _strings(_run(program, claims), what)
        elif source.claim and source.claim in claims:
            for item in _strings(claims[source.claim], what):
                yield source.prefix + item


def _hold(
    rule: Rule, program: Program | None, variables: Mapping[str, Any], claims: Mapping[str, Any]
) -> None:
    """Raises BadToken unless a rule holds."""
    if program is None:
        if rule.claim not in claims:
            raise BadToken(f"oidc: required claim {rule.claim} not present in ID token")
        if claims[rule.claim] != rule.value:
            raise BadToken(
                f"oidc: required claim {rule.claim} value does not match. Got ="
                f" {claims[rule.claim]}, want = {rule.value}"
            )
        return
    if _evaluate(program, variables) is not True:
        raise BadToken(rule.message or f"oidc: validation expression '{rule.expression}' failed")


def _claim(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise BadToken(f"oidc: claim not present: {name}")
    if not isinstance(value, str) or not value:
        raise BadToken(f"oidc: claim {name} must be a string")
    return value


def _strings(value: Any, what: str) -> Sequence[str]:
    """A string or a list of strings; null is none."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [item for item in value if item]
    raise BadToken(f"oidc: {what} must be a string or a list of strings")


def _string(program: Program, claims: Mapping[str, Any], what: str) -> str:
    value = _run(program, claims)
    if not isinstance(value, str):
        raise BadToken(f"oidc: error evaluating {what} claim expression: it must be a string")
    return value


def _run(program: Program, claims: Mapping[str, Any]) -> Any:
    return _evaluate(program, {"claims": claims})


def _evaluate(program: Program, variables: Mapping[str, Any]) -> Any:
    from sampan.api.cel import CostExceeded, EvaluationError

    try:
        return program.evaluate(variables)
    except (EvaluationError, CostExceeded) as error:
        raise BadToken(f"oidc: error evaluating an expression: {error}") from None


KINDS = {"string": ("string", "dyn"), "list": ("string", "dyn", "list"), "bool": ("bool", "dyn")}


def _compile(text: str, variable: str, wanted: str) -> Program | None:
    """A program for an expression, None without one. Raises BadDocument."""
    if not text:
        return None
    from sampan.api import cel
    from sampan.api.cel.types import DYN

    try:
        program = cel.compile(text, cel.declared(**{variable: DYN}))
    except cel.CompileError as error:
        raise BadDocument(f"compilation failed: {text!r}: {error}") from None
    kind = str(program.type).partition("(")[0]
    if kind not in KINDS[wanted]:
        raise BadDocument(f"{text!r}: must evaluate to {wanted}, not {program.type}")
    return program
