"""Facts of upstream's bootstrap policy (testdata of its bootstrappolicy package, 1.31 to 1.36)."""

from __future__ import annotations

import pytest

from sampan.api.errors import Object
from sampan.server.authz.policy import default_policy

OWN = {
    "system:aggregated-metrics-reader", "sampan:node-network", "sampan:node-dns",
    # Upstream's where its gate ClusterTrustBundle is on.
    "system:cluster-trust-bundle-discovery",
    # And where StorageVersionMigrator is.
    "system:controller:storage-version-migrator-controller",
}  # fmt: skip


def policy(plural: str) -> dict[str, Object]:
    return {
        f"{key[0]}/{key[1]}" if key[0] else key[1]: default.obj
        for default in default_policy()
        if default.resource.plural == plural
        for key in (default.key,)
        if key[1] not in OWN
    }


def grants(role: Object) -> set[tuple[str, str, str, str]]:
    """(verb, group, resource or path, name): what a role's rules add up to."""
    return {
        (verb, group, resource, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule.get("apiGroups") or [""]
        for resource in rule.get("resources") or rule["nonResourceURLs"]
        for name in rule.get("resourceNames") or [""]
    }


def test_every_default_has_its_upstream_name() -> None:
    roles = policy("clusterroles")
    controllers = {name for name in roles if name.startswith("system:controller:")}
    assert (len(roles) - len(controllers), len(controllers)) == (31, 38)
    assert len(policy("roles")) == 7
    assert len(policy("rolebindings")) == 7
    bound = {name for name in policy("clusterrolebindings") if name not in controllers}
    assert len(bound) == 12


GRANTED = {
    "system:kube-scheduler": {
        ("watch", "coordination.k8s.io", "leases", "kube-scheduler"),
        ("deletecollection", "coordination.k8s.io", "leasecandidates", ""),
        ("patch", "resource.k8s.io", "resourceclaims/binding", ""),
        ("delete", "", "pods", ""),
    },
    "system:kube-controller-manager": {
        ("update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        ("create", "", "serviceaccounts/token", ""),
    },
    "system:node": {
        ("create", "", "events", ""),
        ("get", "", "serviceaccounts", ""),
        ("deletecollection", "resource.k8s.io", "resourceslices", ""),
    },
    "system:monitoring": {("get", "", "/statusz", ""), ("get", "", "/flagz", "")},
    "system:controller:resource-claim-controller": {
        ("update", "resource.k8s.io", "resourceclaims/binding", "")
    },
}
REFUSED = {
    "system:kube-scheduler": {("create", "", "pods", ""), ("get", "", "secrets", "")},
    "system:kube-controller-manager": {
        ("list", "coordination.k8s.io", "leases", "kube-controller-manager"),
        ("delete", "", "serviceaccounts", ""),
    },
    "system:node": {
        ("create", "events.k8s.io", "events", ""),
        ("create", "resource.k8s.io", "resourceslices", ""),
        ("delete", "", "nodes", ""),
    },
    "system:controller:pvc-protection-controller": {
        ("update", "", "persistentvolumeclaims/status", "")
    },
    "system:aggregate-to-view": {("get", "", "secrets", "")},
    "system:aggregate-to-edit": {("update", "", "endpoints", ""), ("create", "", "nodes", "")},
}


@pytest.mark.parametrize("name", sorted(GRANTED | REFUSED))
def test_a_role_grants_what_upstreams_does(name: str) -> None:
    given = grants(policy("clusterroles")[name])
    assert GRANTED.get(name, set()) <= given
    assert not REFUSED.get(name, set()) & given


@pytest.mark.parametrize("part", ["kube-controller-manager", "kube-scheduler"])
def test_leaders_lock_by_leases_alone(part: str) -> None:
    """Config maps went out of these roles in 1.35."""
    name = f"kube-system/system::leader-locking-{part}"
    given = grants(policy("roles")[name])
    assert {(group, resource) for _, group, resource, _ in given} == {
        ("coordination.k8s.io", "leases"),
        ("coordination.k8s.io", "leasecandidates"),
    }
    accounts = [
        item["name"]
        for item in policy("rolebindings")[name]["subjects"]
        if item["kind"] == "ServiceAccount"
    ]
    assert accounts == [part, *(["leader-election-controller"] if "manager" in part else [])]
