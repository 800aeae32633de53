"""Whose credentials go to which registry."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sampan.node.pulls import credentials, registry_and_path
from sampan.runtime.interface import Credentials


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("nginx", ("docker.io", "library/nginx")),
        ("a/nginx:1", ("docker.io", "a/nginx")),
        ("docker.io/a/nginx@sha256:00", ("docker.io", "a/nginx")),
        ("localhost/a", ("localhost", "a")),
        ("r.io:5000/a/b:1", ("r.io:5000", "a/b")),
    ],
)
def test_reference(reference: str, parts: tuple[str, str]) -> None:
    assert registry_and_path(reference) == parts


def secret(**auths: Any) -> dict[str, Any]:
    body = json.dumps({"auths": auths}).encode()
    return {"data": {".dockerconfigjson": base64.b64encode(body).decode()}}


def auth(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:pw".encode()).decode()}


SECRETS = [
    {"data": {".dockerconfigjson": "damaged"}},
    secret(**{"https://index.docker.io/v1/": auth("hub"), "r.io": auth("all")}),
    secret(**{"r.io/team": auth("team"), "https://r.io:5000": {"username": "u", "password": "p"}}),
]


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("nginx", Credentials("hub", "pw")),
        ("r.io/other/x", Credentials("all", "pw")),
        ("r.io/team/x:1", Credentials("team", "pw")),
        ("r.io/teammate/x", Credentials("all", "pw")),
        ("r.io:5000/x", Credentials("u", "p")),
        ("evil.io/r.io/x", None),
    ],
)
def test_credentials(reference: str, found: Credentials | None) -> None:
    assert credentials(reference, SECRETS) == found
