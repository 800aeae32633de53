"""Tokens of every other kind: files, bootstrap tokens, legacy secrets, OIDC, a webhook."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sampan.api.errors import Unauthorized
from sampan.api.resources import resource
from sampan.controllers.legacytokencleaner import ALL, LegacyTokenCleaner
from sampan.controllers.runtime.queue import Requeue
from sampan.server.documents import BadDocument
from sampan.server.exchange import User
from tests.behaviour.workload_kit import world
from tests.kit.clock import FakeClock
from tests.kit.cluster import Cluster, api_cluster, server_files
from tests.kit.house import House, house

AUTHENTICATED = "system:authenticated"
SECRETS = "/api/v1/namespaces/{}/secrets"


async def login(cluster: Cluster, token: str) -> User | None:
    found = cluster.server.authn.authenticate({"authorization": f"Bearer {token}"}, None)
    return await found if isinstance(found, Coroutine) else found


async def refused(cluster: Cluster, token: str) -> bool:
    with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        await login(cluster, token)
    return True


def b64(values: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def test_a_file_of_tokens_is_read_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('# people\nt1,ann,7,"dev,ops"\nt2,bob\n')
    authority = tmp_path / "front-proxy-ca.crt"
    authority.touch()
    async with api_cluster(folder=tmp_path, front_proxy_ca=authority) as cluster:
        assert await login(cluster, "t1") == User("ann", ("dev", "ops", AUTHENTICATED), "7")
        assert await login(cluster, "t2") == User("bob", (AUTHENTICATED,))
        assert await refused(cluster, "t3")
        path.write_text("t3,eve\n")
        cluster.server.authn.load()
        assert await refused(cluster, "t1")
        assert await login(cluster, "t3") == User("eve", (AUTHENTICATED,))
        for bad in (b"t3\n", b"t3,\n", b"a,b\na,c\n", b"a,\x80\n"):
            path.write_bytes(bad)
            with pytest.raises(ValueError, match=r"tokens\.csv"):
                cluster.server.authn.load()
            assert await login(cluster, "t3") is not None, "the old file still counts"
        path.write_text("t4,joe\n")
        authority.write_text("-----BEGIN CERTIFICATE-----\na\n-----END CERTIFICATE-----\n")
        with pytest.raises(ValueError):
            cluster.server.authn.load()
        assert await refused(cluster, "t4"), "nothing counts where one file is bad"


BOOTSTRAP = {
    "token-id": "abcdef",
    "token-secret": "0123456789abcdef",
    "usage-bootstrap-authentication": "true",
    "usage-bootstrap-signing": "true",
    "auth-extra-groups": "system:bootstrappers:workers",
    "expiration": "2023-11-14T23:13:20Z",
}
TOKEN = "abcdef.0123456789abcdef"


async def put_bootstrap(cluster: Cluster, name: str = "bootstrap-token-abcdef", **changes: str
                        ) -> None:  # fmt: skip
    await cluster.http("DELETE", f"{SECRETS.format('kube-system')}/{name}")
    data = b64({**BOOTSTRAP, **changes})
    body = {"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "data": data}
    answer = await cluster.http("POST", SECRETS.format("kube-system"), body)
    assert answer.status == 201, answer.message


async def test_bootstrap_tokens_are_good_until_they_expire() -> None:
    clock = FakeClock()  # 2023-11-14T22:13:20Z
    async with api_cluster(clock=clock) as cluster:
        assert await refused(cluster, TOKEN)
        await put_bootstrap(cluster)
        groups = ("system:bootstrappers", "system:bootstrappers:workers", AUTHENTICATED)
        assert await login(cluster, TOKEN) == User("system:bootstrap:abcdef", groups)
        assert await refused(cluster, "abcdef.0123456789abcdee")
        assert await refused(cluster, "abcdeg.0123456789abcdef")
        for changes in (
            {"usage-bootstrap-authentication": "false"},
            {"auth-extra-groups": "system:masters"},
            {"expiration": "soon"},
            {"expiration": "2099-01-01"},
            {"expiration": "2099-01-01T00:00:00"},
            {"token-secret": "0123456789abcdee"},
        ):
            await put_bootstrap(cluster, **changes)
            assert await refused(cluster, TOKEN), changes
        await put_bootstrap(cluster)
        assert await login(cluster, TOKEN) is not None
        await clock.advance(3599)
        assert await login(cluster, TOKEN) is not None
        await clock.advance(1)
        assert await refused(cluster, TOKEN), "the token has expired"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # upstream's format
async def test_cluster_info_is_signed_with_bootstrap_tokens_and_expired_ones_go() -> None:
    async with world() as w:
        path = "/api/v1/namespaces/kube-public/configmaps"
        cluster = w.cluster
        # One whose id is no name of a key, nor its own, keeps nobody else's from signing.
        other = partial(put_bootstrap, cluster, "bootstrap-token-zzzzzz", **{"token-id": "a/b"})
        await other(expiration="2999-01-01T00:00:00Z")
        await put_bootstrap(cluster, expiration="2999-01-01T00:00:00Z")
        body = {"data": {"kubeconfig": "here: I am"}}
        merge = "application/merge-patch+json"
        answer = await cluster.http("PATCH", f"{path}/cluster-info", body, content_type=merge)
        assert answer.status == 200

        async def signature() -> str:
            found = (await cluster.http("GET", f"{path}/cluster-info")).json
            return str(found["data"].get("jws-kubeconfig-abcdef", ""))

        async with asyncio.timeout(10):
            while not await signature():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        header, empty, mac = (await signature()).split(".")
        assert empty == ""
        whole = f"{header}.{base64.urlsafe_b64encode(b'here: I am').rstrip(b'=').decode()}.{mac}"
        assert jwt.PyJWS().decode(whole, BOOTSTRAP["token-secret"].encode(), ["HS256"])
        await put_bootstrap(cluster, expiration="2001-01-01T00:00:00Z")
        await other(expiration="2001-01-01T00:00:00Z")
        async with asyncio.timeout(10):
            while (  # noqa: ASYNC110
                await signature()
                or (await cluster.http("GET", SECRETS.format("kube-system"))).json["items"]
            ):
                await asyncio.sleep(0.01)


async def test_a_secret_of_an_account_gets_a_token_that_lives_as_long_as_it() -> None:
    async with world(token_key=server_files() / "sa.key", root_ca="CA") as w:
        cluster = w.cluster
        path = SECRETS.format("default")
        meta = {"name": "old", "annotations": {"kubernetes.io/service-account.name": "default"}}
        body = {"metadata": meta, "type": "kubernetes.io/service-account-token"}
        assert (await cluster.http("POST", path, body)).status == 201
        data: dict[str, str] = {}
        async with asyncio.timeout(10):
            while "token" not in data:
                found = (await cluster.http("GET", f"{path}/old")).json
                data = found.get("data") or {}
                await asyncio.sleep(0.01)
        assert base64.b64decode(data["ca.crt"]) == b"CA"
        assert base64.b64decode(data["namespace"]) == b"default"
        token = base64.b64decode(data["token"]).decode()
        user = await login(cluster, token)
        assert user is not None
        assert user.name == "system:serviceaccount:default:default"
        assert user.groups[0] == "system:serviceaccounts"
        # Its use is noted, by day.
        async with asyncio.timeout(10):
            while not (found["metadata"].get("labels") or {}).get(
                "kubernetes.io/legacy-token-last-used"
            ):
                found = (await cluster.http("GET", f"{path}/old")).json
                await asyncio.sleep(0.01)
        invalid = {"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "x"}}}
        merge = "application/merge-patch+json"
        await cluster.http("PATCH", f"{path}/old", invalid, content_type=merge)
        assert await refused(cluster, token)
        valid = {"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": None}}}
        await cluster.http("PATCH", f"{path}/old", valid, content_type=merge)
        assert await login(cluster, token) is not None
        other = {"data": {"token": base64.b64encode(b"other").decode()}}
        await cluster.http("PATCH", f"{path}/old", other, content_type=merge)
        assert await refused(cluster, token), "the secret holds another token"
        await cluster.http("DELETE", f"{path}/old")
        assert await refused(cluster, token)


async def test_tokens_nobody_uses_become_invalid_and_go_in_the_end() -> None:
    year_s, clock = 366 * 86400.0, FakeClock()
    async with world(token_key=server_files() / "sa.key", root_ca="CA", clock=clock) as w:
        accounts, secrets = w.cache("serviceaccounts"), w.cache("secrets")
        await w.until(lambda: accounts.get("default", "default"))
        account = accounts.get("default", "default") or {}
        names = ("old", "mounted", "by-hand", "used")
        for name in names:
            notes = {"kubernetes.io/service-account.name": "default"}
            meta = {"name": name, "annotations": notes}
            body = {"metadata": meta, "type": "kubernetes.io/service-account-token"}
            answer = await w.cluster.http("POST", SECRETS.format("default"), body)
            assert answer.status == 201
        listed = [{"name": name} for name in names if name != "by-hand"]
        await w.client.update(resource("serviceaccounts"), {**account, "secrets": listed})
        volume = {"name": "v", "secret": {"secretName": "mounted"}}
        pod = {"metadata": {"name": "p"}, "spec": {"volumes": [volume], "containers": [
            {"name": "c", "image": "i"}
        ]}}  # fmt: skip
        await w.client.create(resource("pods"), pod, "default")

        def marked() -> dict[str, bool]:
            return {
                item["metadata"]["name"]: "kubernetes.io/legacy-token-invalid-since"
                in (item["metadata"].get("labels") or {})
                for item in secrets.list("default")
            }

        await w.until(lambda: all((secrets.get("default", name) or {}).get("data")
                                  for name in names))  # fmt: skip
        [cleaner] = [
            item for item in w.controllers.controllers if isinstance(item, LegacyTokenCleaner)
        ]

        async def look(later_s: float) -> None:
            """What is done after so long; nothing else is woken in between."""
            clock._now += later_s
            assert await cleaner.reconcile(ALL) == Requeue(86400)

        await look(0)
        await look(year_s - 5 * 86400)
        assert not any(marked().values())
        today = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y-%m-%d")
        label = {"metadata": {"labels": {"kubernetes.io/legacy-token-last-used": today}}}
        await w.client.patch(resource("secrets"), "used", label, "default")
        await w.until(lambda: (secrets.get("default", "used") or {})["metadata"].get("labels"))
        await look(7 * 86400)
        await w.until(lambda: marked()["old"])
        assert marked() == {"old": True, "mounted": False, "by-hand": False, "used": False}
        await look(year_s)
        await w.until(lambda: "old" not in marked() and marked()["used"])
        assert marked() == {"mounted": False, "by-hand": False, "used": True}


# OIDC.

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()


def publish(at: House, keys: dict[str, Any]) -> None:
    algorithms = jwt.algorithms
    makers = {
        RSA_KEY: algorithms.RSAAlgorithm.to_jwk,
        EC_KEY: algorithms.ECAlgorithm.to_jwk,
        ED_KEY: algorithms.OKPAlgorithm.to_jwk,
    }
    jwks = [
        {**makers[key](key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
        for kid, key in keys.items()
    ]
    # Everybody could sign with this one.
    jwks.append({"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"})
    at.answers["/.well-known/openid-configuration"] = {
        "issuer": at.url,
        "jwks_uri": f"{at.url}/keys",
    }
    at.answers["/keys"] = {"keys": jwks}


def settings(at: House, **changes: Any) -> dict[str, Any]:
    ca = (server_files() / "ca.crt").read_text()
    entry = {
        "issuer": {"url": at.url, "audiences": ["sampan"], "certificateAuthority": ca},
        "claimMappings": {
            "username": {"claim": "sub", "prefix": "oidc:"},
            "groups": {"claim": "groups", "prefix": "oidc:"},
        },
        **changes,
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [entry],
    }


def sign(at: House, key: Any, algorithm: str, kid: str, **claims: Any) -> str:
    body = {"iss": at.url, "aud": "sampan", "sub": "ann", "exp": 1_700_000_600, **claims}
    return jwt.encode(body, key, algorithm, {"kid": kid})


@asynccontextmanager
async def oidc(folder: Path, at: House, **changes: Any) -> AsyncIterator[Cluster]:
    (folder / "authentication.yaml").write_text(yaml.safe_dump(settings(at, **changes)))
    async with api_cluster(folder=folder, clock=FakeClock()) as cluster:
        yield cluster


async def test_tokens_of_another_issuer_are_checked_with_its_keys(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"r": RSA_KEY, "e": EC_KEY, "d": ED_KEY})
        expected = User("oidc:ann", ("oidc:dev", AUTHENTICATED))
        for key, algorithm, kid in (
            (RSA_KEY, "RS256", "r"),
            (RSA_KEY, "PS512", "r"),
            (EC_KEY, "ES256", "e"),
            (ED_KEY, "EdDSA", "d"),
        ):
            token = sign(at, key, algorithm, kid, groups=["dev"])
            assert await login(cluster, token) == expected, algorithm
        assert at.asked == ["GET /.well-known/openid-configuration", "GET /keys"]
        good = {"key": EC_KEY, "algorithm": "ES256", "kid": "e"}
        for changes in (
            {"aud": "others"},
            {"exp": 1_699_999_999},
            {"nbf": 1_700_000_900},
            {"iss": "https://elsewhere"},
            {"sub": None},
            {"groups": [1]},
        ):
            assert await refused(cluster, sign(at, **good, **changes)), changes
        stranger = ec.generate_private_key(ec.SECP256R1())
        assert await refused(cluster, sign(at, stranger, "ES256", "e"))
        assert await refused(cluster, sign(at, b"secret" * 6, "HS256", "shared"))
        assert await refused(cluster, sign(at, None, "none", "e"))
        assert len(at.asked) == 2, "no bad token made us ask again"


async def test_rotated_keys_are_fetched_at_most_now_and_then(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        clock = cluster.server.clock
        assert isinstance(clock, FakeClock)
        assert await refused(cluster, sign(at, EC_KEY, "ES256", "new")), "no keys to be had yet"
        publish(at, {"old": RSA_KEY})
        before = len(at.asked)
        assert await refused(cluster, sign(at, RSA_KEY, "RS256", "old"))
        assert len(at.asked) == before, "asked again too soon"
        await clock.advance(11)
        tokens = [sign(at, RSA_KEY, "RS256", "old", jti=str(item)) for item in range(5)]
        users = await asyncio.gather(*(login(cluster, token) for token in tokens))
        assert all(users)
        assert len(at.asked) == before + 2, "five at once share one fetch"
        publish(at, {"new": EC_KEY})
        await clock.advance(11)
        assert await login(cluster, sign(at, EC_KEY, "ES256", "new"))
        assert await refused(cluster, sign(at, RSA_KEY, "RS256", "old", jti="x"))


async def test_a_token_is_over_when_it_says_so_even_if_remembered(tmp_path: Path) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"e": EC_KEY})
        token = sign(at, EC_KEY, "ES256", "e", exp=1_700_000_005)
        assert await login(cluster, token)
        assert isinstance(cluster.server.clock, FakeClock)
        await cluster.server.clock.advance(6)
        assert await refused(cluster, token)


async def test_expressions_map_and_check_claims(tmp_path: Path) -> None:
    changes = {
        "claimMappings": {
            "username": {"expression": "claims.email.split('@')[0]"},
            "groups": {"expression": "claims.roles.split(',')"},
            "uid": {"expression": "claims.sub"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
        },
        "claimValidationRules": [
            {"expression": "claims.email_verified", "message": "unverified"},
            {"claim": "hd", "requiredValue": "example.com"},
        ],
        "userValidationRules": [
            {"expression": "!user.username.startsWith('system:')", "message": "reserved"}
        ],
    }
    async with house() as at, oidc(tmp_path, at, **changes) as cluster:
        publish(at, {"e": EC_KEY})
        claims = {
            "email": "ann@example.com",
            "email_verified": True,
            "roles": "dev,ops",
            "tenant": "t1",
            "hd": "example.com",
        }

        async def ask(**other: Any) -> User | None:
            return await login(cluster, sign(at, EC_KEY, "ES256", "e", **{**claims, **other}))

        groups = ("dev", "ops", AUTHENTICATED)
        assert await ask() == User("ann", groups, "ann", {"example.com/tenant": ("t1",)})
        for other in (
            {"email_verified": False},
            {"hd": "evil.com"},
            {"email": "system:node:n1@x"},
            {"roles": 7},
        ):
            with pytest.raises(Unauthorized):
                await ask(**other)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"claimMappings": {"username": {"claim": "sub"}}}, "prefix is required"),
        ({"claimMappings": {}}, "username: Required value"),
        ({"claimMappings": {"username": {"expression": "claims.email"}}}, "email_verified"),
        ({"claimMappings": {"username": {"expression": "claims."}}}, "compilation failed"),
        ({"claimMappings": {"username": {"expression": "1"}}}, "must evaluate to string"),
        ({"claimValidationRules": [{}]}, "one of claim and expression"),
        ({"surprise": 1}, "unknown field jwt[0].surprise"),
        ({"issuer": {"url": "http://x", "audiences": ["a"]}}, "scheme must be https"),
        ({"issuer": {"url": "https://x", "audiences": []}}, "audiences: Required value"),
        ({"issuer": {"url": "https://x", "audiences": ["a", "b"]}}, "MatchAny"),
    ],
)
async def test_bad_settings_are_told_and_not_taken(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    async with house() as at, oidc(tmp_path, at) as cluster:
        publish(at, {"e": EC_KEY})
        path = tmp_path / "authentication.yaml"
        path.write_text(yaml.safe_dump(settings(at, **change)))
        with pytest.raises(BadDocument) as error:
            cluster.server.authn.load()
        assert why in str(error.value)
        assert await login(cluster, sign(at, EC_KEY, "ES256", "e")), "the old settings still count"


async def test_anonymous_requests_can_be_limited(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
    }
    path = tmp_path / "authentication.yaml"
    async with api_cluster(folder=tmp_path) as cluster:
        for anonymous, served in (
            (None, {"/version": True, "/livez": True}),
            ({"enabled": False}, {"/version": False, "/livez": False}),
            (
                {"enabled": True, "conditions": [{"path": "/livez"}]},
                {"/version": False, "/livez": True},
            ),
        ):
            path.write_text(yaml.safe_dump({**config, "anonymous": anonymous}))
            cluster.server.authn.load()
            for url, allowed in served.items():
                assert cluster.server.authn.allows_anonymous(url) is allowed


# A webhook.


async def test_a_webhook_judges_tokens_that_nobody_else_knows(tmp_path: Path) -> None:
    async with house() as at:
        at.write_kubeconfig(tmp_path / "authentication-webhook.kubeconfig", "/judge")

        def judge(review: dict[str, Any]) -> dict[str, Any]:
            if review["spec"]["token"] != "good":
                return {**review, "status": {"authenticated": False}}
            user = {"username": "ann", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}
            return {**review, "status": {"authenticated": True, "user": user}}

        at.answers["/judge"] = judge
        async with api_cluster(folder=tmp_path, clock=FakeClock()) as cluster:
            ann = User("ann", ("g", AUTHENTICATED), "1", {"k": ("v",)})
            assert await login(cluster, "good") == ann
            assert await login(cluster, "good") == ann
            assert await refused(cluster, "bad")
            assert await refused(cluster, "bad")
            assert len(at.asked) == 2, "answers are remembered, good and bad ones"
            at.answers["/judge"] = lambda review: {
                **review, "status": {"authenticated": True, "user": {"username": "a", "extra": [1]}}
            }  # fmt: skip
            assert await refused(cluster, "odd"), "nobody is let in by an answer that is no user"
            at.answers["/judge"] = judge
            spec = {"spec": {"token": "good"}}
            answer = await cluster.http("POST", "/apis/authentication.k8s.io/v1/tokenreviews", spec)
            assert answer.json["status"]["user"]["username"] == "ann"
            assert isinstance(cluster.server.clock, FakeClock)
            await cluster.server.clock.advance(121)
            at.answers["/judge"] = None
            assert await refused(cluster, "good"), "who cannot be asked lets nobody in"
