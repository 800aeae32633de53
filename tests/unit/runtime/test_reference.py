"""Names of images, as users write them and as the registry wants them."""

from __future__ import annotations

import pytest

from sampan.runtime.reference import InvalidReference, is_id, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("myhost:5000/a", "myhost:5000/a:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
    ],
)
def test_full_name(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nginx",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a@sha256:abc",
        "a@md5:" + "0" * 32,
        "a b",
        "../etc/passwd",
        "a/../b",
        "http://a/b",
        "a:" + "x" * 129,
        "a" * 300,
        "-a",
        "a\n",
        "é",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert f'couldn\'t parse image name "{text}": invalid reference format' in str(caught.value)


def test_ids_are_told_from_names() -> None:
    assert is_id("sha256:" + "0" * 64)
    assert is_id("0" * 64)
    assert not is_id("0" * 63)
    assert not is_id("sha256:" + "G" * 64)
