"""Conformance behaviours of sig-cli and sig-auth that need a container (as upstream's logs.go in
test/e2e/kubectl and service_accounts.go in test/e2e/auth), with kubectl 1.37. The index of them all
is tests/conformance/behaviours.yaml."""

from __future__ import annotations

import base64
import json
import re

from sampan.api.times import parse_time
from tests.clients.cluster import Cluster, pod, until

LINES = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done"


def test_logs_are_retrieved_and_filtered(cluster: Cluster, namespace: str) -> None:
    kubectl = cluster.user.kubectl
    made = pod("logs-generator", ["sh", "-c", LINES])
    kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(made)).ok

    def logs(*options: str) -> str:
        return kubectl("logs", "logs-generator", "main", "-n", namespace, *options).out

    # Some two seconds of lines, so that the last of them are fewer.
    until(lambda: len(logs().splitlines()) > 20, "twenty lines")
    assert re.fullmatch(r"line \d+\n", logs("--tail=1"))
    assert logs("--limit-bytes=1") == "l"
    (stamped,) = logs("--tail=1", "--timestamps").splitlines()
    stamp, _, rest = stamped.partition(" ")
    assert parse_time(stamp) > 0
    assert rest.startswith("line ")
    recent = logs("--since=1s").splitlines()
    older = logs("--since=24h").splitlines()
    assert len(recent) < len(older)
    assert older[0] == "line 1"


def test_a_projected_token_is_mounted(cluster: Cluster, namespace: str) -> None:
    kubectl = cluster.user.kubectl
    token = {"path": "token", "expirationSeconds": 7200, "audience": "e2e"}
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": token}]}}
    script = "cut -c1-3 /test/token; cut -d. -f2 /test/token; sleep 600"
    made = pod("projected", ["sh", "-c", script], volumes=[volume])
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "t", "mountPath": "/test"}]
    kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(made)).ok
    said = until(lambda: kubectl("logs", "projected", "-n", namespace).out.split()[1:], "a token")
    claims = json.loads(decoded(said[0]))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["aud"] == ["e2e"]
    assert claims["kubernetes.io"]["pod"]["name"] == "projected"


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
