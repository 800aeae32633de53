"""Tokens made to break whoever reads them, the well signed ones too: each is refused, or stands for
somebody; none is an error of the server."""

from __future__ import annotations

import base64
import random
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import jwt
import orjson

from sampan.server.entrance import receive
from sampan.server.exchange import Request, Response
from tests.kit.cluster import Cluster
from tests.kit.house import House, house

from .test_tokens import EC_KEY, ED_KEY, RSA_KEY, oidc, publish

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
ODD: tuple[Any, ...] = (
    None, 0, -1, 1e308, 2**62, True, "", "x", "a" * 3000, [], [1], [[]], ["x"], {}, {"a": {}},
    "\0", "é",
)  # fmt: skip
CLAIMS = ("iss", "aud", "sub", "exp", "nbf", "groups", "_claim_names", "_claim_sources")
ALGORITHMS: tuple[Any, ...] = ("ES256", "none", "HS256", "EdDSA", "RS256", "PS256", None, 1, [], {})
KEYS: tuple[Any, ...] = ("e", "r", "d", "", None, 1, [], "shared", {})
TURNS = 400


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def hostile(dice: random.Random, cluster: Cluster, at: House, good: str) -> Iterator[str]:
    """Tokens of the issuer and of the cluster with odd claims, odd heads, and broken letters."""
    ours = orjson.loads(base64.urlsafe_b64decode(good.split(".")[1] + "=="))
    keys = cluster.server.authn.tokens.keys
    while True:
        claims: dict[str, Any] = {"iss": at.url, "aud": "sampan", "sub": "ann", "exp": 1.7e9 + 9}
        claims |= {name: dice.choice(ODD) for name in dice.sample(CLAIMS, 2)}
        yield jwt.PyJWS().encode(orjson.dumps(claims), EC_KEY, "ES256", {"kid": "e"})
        own = orjson.loads(orjson.dumps(ours))
        inner = dice.choice((own, own["kubernetes.io"]))
        inner[dice.choice([*inner, "pod", "node", "secret", "warnafter"])] = dice.choice(ODD)
        yield keys.sign(own)
        head = {"alg": dice.choice(ALGORITHMS), "kid": dice.choice(KEYS)}
        head |= {name: dice.choice(ODD) for name in dice.sample(("typ", "crit", "b64", "jku"), 2)}
        body: Any = dice.choice((ours, claims, [], 1, None))
        yield f"{part(head)}.{part(body)}.{dice.choice(('', 'AAAA', '!!', 'a' * 86))}"
        letters = list(good)
        letters[dice.randrange(len(letters))] = dice.choice(". \0é\t=AZ-_")
        yield "".join(letters)


async def test_no_token_is_an_error_of_the_server(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"r": RSA_KEY, "e": EC_KEY, "d": ED_KEY})
        await cluster.http("POST", ACCOUNTS, {"metadata": {"name": "s"}})
        made = await cluster.http("POST", f"{ACCOUNTS}/s/token", {"spec": {}})
        tokens = hostile(random.Random(7), cluster, at, made.json["status"]["token"])
        for _ in range(TURNS):
            token = next(tokens)
            headers = {"authorization": f"Bearer {token}"}
            answer = receive(cluster.server, Request("GET", ACCOUNTS, {}, headers, b""), None)
            if isinstance(answer, Awaitable):
                answer = await answer
            assert isinstance(answer, Response)
            assert answer.status in (200, 401, 403), (token, answer.body)
