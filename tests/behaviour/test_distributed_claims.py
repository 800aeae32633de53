"""Groups that a token does not hold, but says where to fetch (as upstream's TestToken has them)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sampan.server.exchange import User
from tests.kit.house import House, house

from .test_tokens import AUTHENTICATED, EC_KEY, ED_KEY, login, oidc, publish, refused, sign


def elsewhere(at: House, path: str = "/groups", **source: Any) -> dict[str, Any]:
    """The claims that say so."""
    return {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": f"{at.url}{path}", "access_token": "t", **source}},
    }


def token(at: House, **claims: Any) -> str:
    return sign(at, EC_KEY, "ES256", "e", **claims)


async def test_groups_are_fetched_where_a_token_says(tmp_path: Path) -> None:
    async with house() as at, house() as other, oidc(tmp_path, at) as cluster:
        publish(at, {"e": EC_KEY})
        publish(other, {"d": ED_KEY})
        expected = User("oidc:ann", ("oidc:dev", AUTHENTICATED))
        at.answers["/groups"] = token(at, groups=["dev"]).encode()
        assert await login(cluster, token(at, **elsewhere(at))) == expected
        assert at.shown == ["Bearer t"]
        # Another issuer's answer is checked with that issuer's keys.
        other.answers["/groups"] = sign(other, ED_KEY, "EdDSA", "d", groups=["dev"]).encode()
        assert await login(cluster, token(at, **elsewhere(other), n=1)) == expected
        # What the token holds itself counts, and what is put into it unsigned does not.
        own = token(at, groups=["own"], **elsewhere(at))
        assert await login(cluster, own) == User("oidc:ann", ("oidc:own", AUTHENTICATED))
        inside = token(at, **elsewhere(at, endpoint="", JWT="x"))
        assert await login(cluster, inside) == User("oidc:ann", (AUTHENTICATED,))


async def test_references_that_make_no_sense(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"e": EC_KEY})
        for names, sources in (
            ([], {}),
            ({"groups": "s"}, None),
            ({"groups": {}}, {}),
            ({"groups": "s"}, []),
            ({"groups": "s"}, {"other": {}}),
            ({"groups": "s"}, {"s": {"endpoint": "http://x/"}}),
        ):
            claims: dict[str, Any] = {"_claim_names": names, "_claim_sources": sources}
            assert await refused(cluster, token(at, **claims)), claims
        assert not at.shown


async def test_answers_that_are_no_good(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"e": EC_KEY})
        for number, answer in enumerate((
            None, b"", b"\xff", b"a.b.c", token(at).encode(),
            token(at, groups=["dev"], aud="others").encode(),
            token(at, groups=["dev"], exp=1).encode(),
            token(at, groups=["dev"], iss="https://localhost:1").encode(),
            sign(at, ED_KEY, "EdDSA", "e", groups=["dev"]).encode(),
        )):  # fmt: skip
            at.answers["/groups"] = answer
            assert await refused(cluster, token(at, **elsewhere(at), n=number)), answer
