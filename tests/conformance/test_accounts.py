"""Service accounts and reviews (as upstream's service_accounts.go and subjectreviews.go in
test/e2e/auth). What pods find mounted is proven with containers, in tests/system."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from sampan.server.exchange import User

from .bench import CORE, NS, PODS, Bench, Obj, pod_spec

ACCOUNTS = f"{NS}/serviceaccounts"
NAMESPACES = f"{CORE}/namespaces"
AUTOMOUNT = {"default": None, "mount": True, "nomount": False}
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
ROOT_CA = "kube-root-ca.crt"


def account(name: str, **fields: Any) -> Obj:
    return {"metadata": {"name": name}, **fields}


@pytest.mark.parametrize("of_pod", AUTOMOUNT.values())
@pytest.mark.parametrize("of_account", AUTOMOUNT)
async def test_tokens_are_mounted_unless_the_pod_or_else_its_account_says_no(
    bench: Bench, of_pod: bool | None, of_account: str
) -> None:
    wanted = AUTOMOUNT[of_account]
    field = {} if wanted is None else {"automountServiceAccountToken": wanted}
    await bench.create(ACCOUNTS, account("own", **field))
    spec = {**pod_spec(), "serviceAccountName": "own"}
    if of_pod is not None:
        spec["automountServiceAccountToken"] = of_pod
    made = await bench.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    mounts = made["spec"]["containers"][0].get("volumeMounts") or []
    paths = [item["mountPath"] for item in mounts]
    mounted = of_pod if of_pod is not None else wanted is not False
    assert paths == (["/var/run/secrets/kubernetes.io/serviceaccount"] if mounted else [])


async def test_a_token_is_requested_and_reviewed(bench: Bench) -> None:
    await bench.create(ACCOUNTS, account("e2e"))
    made = await bench.create(f"{ACCOUNTS}/e2e/token", {"spec": {}})
    token = made["status"]["token"]
    assert token
    review = await bench.create(
        "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}
    )
    assert review["status"]["authenticated"] is True
    assert "error" not in review["status"]
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:e2e"


async def test_its_issuer_is_discovered(bench: Bench) -> None:
    """What a pod with a projected token of its own audience does, as upstream's test image."""
    await bench.create(ACCOUNTS, account("e2e"))
    asked = {"spec": {"audiences": ["oidc-discovery-test"]}}
    token = (await bench.create(f"{ACCOUNTS}/e2e/token", asked))["status"]["token"]
    reader = User(
        "system:serviceaccount:default:e2e",
        ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"),
    )
    found = await bench.get("/.well-known/openid-configuration", user=reader)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == found["issuer"]
    path = found["jwks_uri"].partition("://")[2].partition("/")[2]
    keys = await bench.get(f"/{path}", user=reader)
    header = jwt.get_unverified_header(token)
    (key,) = [item for item in keys["keys"] if item["kid"] == header["kid"]]
    read = jwt.decode(
        token, jwt.PyJWK(key), algorithms=[header["alg"]], audience="oidc-discovery-test"
    )
    assert read["sub"] == "system:serviceaccount:default:e2e"
    assert found["id_token_signing_alg_values_supported"] == [header["alg"]]


async def test_the_root_certificate_is_in_every_namespace(bench: Bench) -> None:
    await bench.create(NAMESPACES, {"metadata": {"name": "e2e"}})
    path = f"{NAMESPACES}/e2e/configmaps/{ROOT_CA}"
    made = await bench.state(path, lambda obj: True)
    await bench.delete(path)
    again = await bench.state(path, lambda obj: obj["metadata"]["uid"] != made["metadata"]["uid"])
    assert again["data"] == made["data"]
    await bench.put(path, {**again, "data": {"ca.crt": ""}})
    right = await bench.state(path, lambda obj: obj["data"] == made["data"])
    assert "BEGIN CERTIFICATE" in right["data"]["ca.crt"]


async def test_the_life_of_an_account(bench: Bench) -> None:
    labels = {"test-serviceaccount-static": "true"}
    name = "testserviceaccount"
    chosen = "?labelSelector=test-serviceaccount-static%3Dtrue"
    async with bench.watching(f"{ACCOUNTS}{chosen}") as seen:
        await bench.create(ACCOUNTS, {"metadata": {"name": name, "labels": labels}})
        await bench.patch(
            f"{ACCOUNTS}/{name}",
            {"automountServiceAccountToken": False},
            "application/strategic-merge-patch+json",
        )
        listed = (await bench.get(f"{CORE}/serviceaccounts{chosen}"))["items"]
        assert [item["metadata"]["name"] for item in listed] == [name]
        assert listed[0]["automountServiceAccountToken"] is False
        await bench.delete(f"{ACCOUNTS}{chosen}")
        await seen.until(lambda events: events[-1:] and events[-1]["type"] == "DELETED")
        assert seen.types[0] == "ADDED"
        assert seen.events[0]["object"]["metadata"]["labels"] == labels


async def test_an_update(bench: Bench) -> None:
    made = await bench.create(ACCOUNTS, account("e2e-sa"))
    assert "automountServiceAccountToken" not in made
    updated = await bench.put(f"{ACCOUNTS}/e2e-sa", {**made, "automountServiceAccountToken": True})
    assert updated["automountServiceAccountToken"] is True
    read = await bench.get(f"{ACCOUNTS}/e2e-sa")
    assert read["automountServiceAccountToken"] is True


async def test_a_review_says_what_impersonation_finds(bench: Bench) -> None:
    await bench.create(ACCOUNTS, account("e2e"))
    token = (await bench.create(f"{ACCOUNTS}/e2e/token", {"spec": {}}))["status"]["token"]
    review = await bench.create(
        "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}
    )
    given = review["status"]["user"]
    user = User(given["username"], tuple(given["groups"]), given["uid"])
    base = "/apis/authorization.k8s.io/v1"
    for allowed in (False, True):
        if allowed:
            await grant(bench)
        listing = await bench.http("GET", f"{NS}/configmaps", user=user)
        assert listing.status == (200 if allowed else 403)
        spec = {
            "user": user.name,
            "groups": list(user.groups),
            "resourceAttributes": {"verb": "list", "resource": "configmaps",
                                   "namespace": "default", "version": "v1"},
        }  # fmt: skip
        for path in ("subjectaccessreviews", "namespaces/default/localsubjectaccessreviews"):
            metadata = {"metadata": {"namespace": "default"}} if "local" in path else {}
            found = await bench.create(f"{base}/{path}", {**metadata, "spec": spec})
            assert found["status"]["allowed"] is allowed


async def grant(bench: Bench) -> None:
    subject = {"kind": "ServiceAccount", "name": "e2e", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    await bench.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        {"metadata": {"name": "e2e"}, "subjects": [subject], "roleRef": role},
    )
