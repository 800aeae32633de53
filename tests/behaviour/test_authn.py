"""Who is asking: tokens bound to what exists, certificates, impersonation, TokenReview."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sampan.api.errors import BadRequest, Forbidden, Unauthorized
from sampan.server.authn import impersonate
from sampan.server.exchange import User
from tests.kit.clock import FakeClock
from tests.kit.cluster import Answer, Cluster, api_cluster, server_files

NS = "/api/v1/namespaces/default"
UNCHECKED = {"verify_signature": False}
ISSUER = "https://kubernetes.default.svc.cluster.local"


async def make_account(cluster: Cluster, name: str = "app") -> None:
    answer = await cluster.http("POST", f"{NS}/serviceaccounts", {"metadata": {"name": name}})
    assert answer.status == 201


async def request_token(cluster: Cluster, spec: dict[str, Any], name: str = "app") -> Answer:
    return await cluster.http("POST", f"{NS}/serviceaccounts/{name}/token", {"spec": spec})


async def new_token(cluster: Cluster, **spec: Any) -> str:
    answer = await request_token(cluster, spec)
    assert answer.status == 201, answer.message
    return str(answer.json["status"]["token"])


def login(cluster: Cluster, token: str) -> User:
    user = cluster.server.authn.authenticate({"authorization": f"Bearer {token}"}, None)
    assert user is not None
    return user


def refused(cluster: Cluster, token: str) -> bool:
    with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        login(cluster, token)
    return True


async def make_pod(cluster: Cluster, name: str = "web") -> dict[str, Any]:
    spec = {"serviceAccountName": "app", "containers": [{"name": "c", "image": "x"}]}
    answer = await cluster.http("POST", f"{NS}/pods", {"metadata": {"name": name}, "spec": spec})
    assert answer.status == 201, answer.message
    made: dict[str, Any] = answer.json
    return made


async def test_no_credentials_is_nobody_and_wrong_ones_are_refused() -> None:
    async with api_cluster(tokens={"secret": User("bob", ("team",))}) as cluster:
        authenticate = cluster.server.authn.authenticate
        assert authenticate({}, None) is None
        assert authenticate({"authorization": "Basic Ym9iOnB3"}, None) is None
        assert login(cluster, "secret") == User("bob", ("team", "system:authenticated"))
        for wrong in ("secre", "secrets", "SECRET", "a.b.c", "é", "x" * 100_000):
            assert refused(cluster, wrong)


async def test_a_token_lives_as_long_as_its_account() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        token = await new_token(cluster)
        user = login(cluster, token)
        assert user.name == "system:serviceaccount:default:app"
        assert user.groups == (
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
        )
        assert login(cluster, token) is user  # remembered
        await cluster.http("DELETE", f"{NS}/serviceaccounts/app")
        assert refused(cluster, token)
        await make_account(cluster)  # the same name is not the same account
        assert refused(cluster, token)


async def test_a_bound_token_dies_with_its_pod() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        pod = await make_pod(cluster)
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]}
        token = await new_token(cluster, boundObjectRef=ref)
        extra = login(cluster, token).extra
        assert extra["authentication.kubernetes.io/pod-name"] == ("web",)
        assert extra["authentication.kubernetes.io/pod-uid"] == (pod["metadata"]["uid"],)
        await cluster.http("DELETE", f"{NS}/pods/web", {"gracePeriodSeconds": 0})
        assert refused(cluster, token)
        await make_pod(cluster)
        assert refused(cluster, token)


async def test_a_bound_token_dies_with_its_secret() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        made = await cluster.http("POST", f"{NS}/secrets", {"metadata": {"name": "s"}})
        ref = {"kind": "Secret", "apiVersion": "v1", "name": "s"}
        assert made.status == 201
        token = await new_token(cluster, boundObjectRef=ref)
        login(cluster, token)
        await cluster.http("DELETE", f"{NS}/secrets/s")
        assert refused(cluster, token)


async def test_a_token_is_for_the_account_that_is_meant() -> None:
    """An account of the same name that came later is another one."""
    async with api_cluster() as cluster:
        await make_account(cluster)
        path = f"{NS}/serviceaccounts/app"
        uid = (await cluster.http("GET", path)).json["metadata"]["uid"]
        good = await cluster.http("POST", f"{path}/token", {"metadata": {"uid": uid}, "spec": {}})
        assert good.status == 201, good.message
        bad = await cluster.http("POST", f"{path}/token", {"metadata": {"uid": "u"}, "spec": {}})
        assert (bad.status, bad.message) == (
            409,
            'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "app": the UID in '
            f"the token request (u) does not match the UID of the service account ({uid})",
        )


async def test_tokens_expire() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await make_account(cluster)
        token = await new_token(cluster, expirationSeconds=600)
        await clock.advance(599)
        login(cluster, token)
        await clock.advance(62)  # beyond the leeway for clocks that differ
        assert refused(cluster, token)
        assert refused(cluster, token)


async def test_tokens_for_others_are_not_for_us() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        token = await new_token(cluster, audiences=["vault"])
        assert refused(cluster, token)
        both = await new_token(cluster, audiences=["vault", ISSUER])
        login(cluster, both)


async def test_tokens_of_another_cluster_are_refused() -> None:
    async with api_cluster(issuer="https://other") as other, api_cluster() as cluster:
        await make_account(other)
        await make_account(cluster)
        assert refused(cluster, await new_token(other))


async def test_token_requests_are_checked() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        await make_account(cluster, "other")
        pod = await make_pod(cluster)
        short = await request_token(cluster, {"expirationSeconds": 10})
        assert (short.status, short.message) == (
            422,
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds:'
            " Invalid value: 10: may not specify a duration less than 10 minutes",
        )
        wrong_type = await request_token(cluster, {"expirationSeconds": "600"})
        assert wrong_type.status == 400
        assert (await request_token(cluster, {}, "missing")).status == 404
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "nope"}
        assert (await request_token(cluster, {"boundObjectRef": ref})).status == 404
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "other"}
        assert (await request_token(cluster, {"boundObjectRef": ref})).status == 409
        ref["uid"] = pod["metadata"]["uid"]
        foreign = await request_token(cluster, {"boundObjectRef": ref}, "other")
        assert foreign.status == 400
        assert "different serviceaccount" in foreign.message
        ref = {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}
        assert (await request_token(cluster, {"boundObjectRef": ref})).message == (
            'cannot bind token for serviceaccount "app" to object of type /v1, Kind=ConfigMap'
        )
        body = {"metadata": {"name": "x"}, "spec": {}}
        named = await cluster.http("POST", f"{NS}/serviceaccounts/app/token", body)
        assert (named.status, named.message) == (
            422,
            'TokenRequest.authentication.k8s.io "app" is invalid: metadata.name: Invalid value: '
            '"x": must match the service account name if specified',
        )


async def test_mounted_tokens_outlive_the_time_they_were_asked_for() -> None:
    """Programs that read their token once go on working; that they do is counted (KEP-2799)."""
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        await make_account(cluster)
        pod = await make_pod(cluster)
        node = {"apiVersion": "v1", "kind": "Node", "name": "n"}
        target = {"metadata": {"name": "web"}, "target": node}
        assert (await cluster.http("POST", f"{NS}/pods/web/binding", target)).status == 201
        ref = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]}
        answer = await request_token(cluster, {"boundObjectRef": ref, "expirationSeconds": 3607})
        assert answer.json["status"]["expirationTimestamp"] == "2023-11-14T23:13:27Z"
        token = answer.json["status"]["token"]
        claims = jwt.decode(token, options=UNCHECKED)
        assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
        assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607
        # The node is not there, but it is said where the pod is.
        assert claims["kubernetes.io"]["node"] == {"name": "n"}
        extra = login(cluster, token).extra
        assert extra["authentication.kubernetes.io/node-name"] == ("n",)
        assert "authentication.kubernetes.io/node-uid" not in extra
        await clock.advance(4000)
        login(cluster, token)
        text = (await cluster.http("GET", "/metrics")).body.decode()
        assert "serviceaccount_valid_tokens_total 1\n" in text
        assert "serviceaccount_stale_tokens_total 1\n" in text
        # Only what is mounted for this server.
        for spec in ({"expirationSeconds": 3607},
                     {"expirationSeconds": 3607, "boundObjectRef": ref, "audiences": ["vault"]},
                     {"expirationSeconds": 3600, "boundObjectRef": ref}):  # fmt: skip
            claims = jwt.decode(await new_token(cluster, **spec), options=UNCHECKED)
            assert claims["exp"] - claims["iat"] == spec["expirationSeconds"]


async def test_token_review() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        token = await new_token(cluster)

        async def review(spec: dict[str, Any]) -> Any:
            path = "/apis/authentication.k8s.io/v1/tokenreviews"
            answer = await cluster.http("POST", path, {"spec": spec})
            return answer.json["status"] if answer.status == 201 else answer.status

        good = await review({"token": token})
        assert good["authenticated"] is True
        assert good["user"]["username"] == "system:serviceaccount:default:app"
        assert good["audiences"] == [ISSUER]
        assert (await review({"token": token, "audiences": ["vault", ISSUER]}))["audiences"] == [
            ISSUER
        ]
        for spec in ({"token": token + "x"}, {"token": token, "audiences": ["vault"]}):
            bad = await review(spec)
            assert not bad.get("authenticated")
            assert "username" not in bad["user"]
            assert bad["error"]
        assert await review({"token": ""}) == 400
        assert await review({"token": ["a"]}) == 400


async def test_client_certificates() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        pem = (server_files() / "admin.crt").read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        der = certificate.public_bytes(Encoding.DER)
        clock._now = certificate.not_valid_after_utc.timestamp() - 10
        authenticate = cluster.server.authn.authenticate
        user = authenticate({}, der)
        assert user is not None
        assert (user.name, user.groups) == (
            "kubernetes-admin",
            ("system:masters", "system:authenticated"),
        )
        # A connection may outlive its certificate; its rights do not.
        await clock.advance(20)
        with pytest.raises(Unauthorized):
            authenticate({}, der)
        with pytest.raises(Unauthorized):
            authenticate({}, b"garbage")
        # Told by what was left of it: ten seconds, which is less than half an hour.
        lifetimes = cluster.server.metrics.lifetimes
        assert (lifetimes.counts[1], sum(lifetimes.counts), lifetimes.total) == (1, 1, 10)


async def test_websockets_carry_the_token_in_a_subprotocol() -> None:
    async with api_cluster(tokens={"secret": User("bob")}) as cluster:
        authenticate = cluster.server.authn.authenticate
        prefix = "base64url.bearer.authorization.k8s.io."
        header = {"sec-websocket-protocol": f"v5.channel.k8s.io, {prefix}c2VjcmV0"}
        user = authenticate(header, None)
        assert user is not None
        assert user.name == "bob"
        for bad in ("c2VjcmV", "!!", ""):
            with pytest.raises(Unauthorized):
                authenticate({"sec-websocket-protocol": prefix + bad}, None)


async def test_impersonation_is_authorised_part_by_part() -> None:
    admin = User("root", ("system:masters",))
    helper = User("helper", ("system:authenticated",))
    rules = [
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"],
         "resourceNames": ["bob"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"],
         "resourceNames": ["dev"]},
    ]  # fmt: skip
    async with api_cluster() as cluster:
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await cluster.http("POST", f"{rbac}/clusterroles", {"metadata": {"name": "imp"},
                                                            "rules": rules})  # fmt: skip
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "imp"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "helper"}
        body = {"metadata": {"name": "imp"}, "roleRef": ref, "subjects": [subject]}
        assert (await cluster.http("POST", f"{rbac}/clusterrolebindings", body)).status == 201

        def become(user: User, /, **headers: str) -> User:
            named = {f"impersonate-{key.replace('_', '-')}": v for key, v in headers.items()}
            return impersonate(cluster.server, user, named).user

        assert become(helper) is helper
        assert become(helper, user="bob") == User("bob", ("system:authenticated",), "", {})
        assert become(helper, user="bob", group="dev").groups == ("dev", "system:authenticated")
        for headers in (
            {"user": "root"},
            {"user": "bob", "group": "system:masters"},
            {"user": "bob", "group": "dev,system:masters"},
            {"user": "bob", "uid": "1"},
            {"user": "bob", "extra_scopes": "all"},
            {"user": "system:serviceaccount:kube-system:x"},
        ):
            with pytest.raises(Forbidden, match="cannot impersonate resource"):
                become(helper, **headers)
        for headers in ({"group": "dev"}, {"uid": "1"}, {"extra_a": "b"}):
            with pytest.raises(BadRequest):
                become(admin, **headers)
        account = become(admin, user="system:serviceaccount:a:b")
        assert account.groups[:2] == ("system:serviceaccounts", "system:serviceaccounts:a")
        assert become(admin, user="system:anonymous").groups == ("system:unauthenticated",)


async def test_a_token_is_not_bound_to_what_was_replaced() -> None:
    async with api_cluster() as cluster:
        await make_account(cluster)
        await cluster.http("POST", f"{NS}/secrets", {"metadata": {"name": "s"}})
        ref = {"apiVersion": "v1", "kind": "Secret", "name": "s"}
        assert (await request_token(cluster, {"boundObjectRef": ref})).status == 201
        answer = await request_token(cluster, {"boundObjectRef": {**ref, "uid": "123"}})
        assert (answer.status, answer.message) == (
            409,
            'Operation cannot be fulfilled on Secret "s": the UID in the bound object reference'
            " (123) does not match the UID in record. The object might have been deleted and then"
            " recreated",
        )
