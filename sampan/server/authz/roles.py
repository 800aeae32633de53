"""The default cluster roles, as data: names and rules of Kubernetes 1.36's bootstrap policy.

A rule is (verbs, API groups, resources[, names]) in words, "core" being the group without a name,
or (verbs, paths) for what is no resource. `policy.py` makes objects of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

RuleRow = tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, str]

READ: Final = "get list watch"
CHANGE: Final = "create delete deletecollection patch update"
ALL_VERBS: Final = "create delete deletecollection get list patch update watch"
EVENTS: Final = ("create patch update", "core events.k8s.io", "events")
REVIEW_TOKENS: Final = ("create", "authentication.k8s.io", "tokenreviews")
REVIEW_ACCESS: Final = ("create", "authorization.k8s.io", "subjectaccessreviews")
PUBLIC_PATHS: Final = "/healthz /livez /readyz /version /version/"

AGGREGATE_TO_ADMIN: Final[Sequence[RuleRow]] = (
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (ALL_VERBS, "rbac.authorization.k8s.io", "rolebindings roles"),
)

AGGREGATE_TO_EDIT: Final[Sequence[RuleRow]] = (
    (
        READ,
        "core",
        "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
    ),
    ("impersonate", "core", "serviceaccounts"),
    (CHANGE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    ("create", "core", "pods/eviction"),
    (
        CHANGE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers"
        " replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    ("create", "core", "serviceaccounts/token"),
    (
        CHANGE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets"
        " replicasets/scale statefulsets statefulsets/scale",
    ),
    (CHANGE, "autoscaling", "horizontalpodautoscalers"),
    (CHANGE, "batch", "cronjobs jobs"),
    (
        CHANGE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses"
        " networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
    ),
    (CHANGE, "policy", "poddisruptionbudgets"),
    (CHANGE, "networking.k8s.io", "ingresses networkpolicies"),
    (ALL_VERBS, "coordination.k8s.io", "leases"),
    (CHANGE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
)

AGGREGATE_TO_VIEW: Final[Sequence[RuleRow]] = (
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods"
        " replicationcontrollers replicationcontrollers/scale serviceaccounts services"
        " services/status",
    ),
    (
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status"
        " replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    (READ, "core", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale"
        " deployments/status replicasets replicasets/scale replicasets/status statefulsets"
        " statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status"
        " ingresses ingresses/status networkpolicies replicasets replicasets/scale"
        " replicasets/status replicationcontrollers/scale",
    ),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
)

SCHEDULER: Final[Sequence[RuleRow]] = (
    EVENTS,
    ("create", "coordination.k8s.io", "leases"),
    ("get list update watch", "coordination.k8s.io", "leases", "kube-scheduler"),
    (ALL_VERBS, "coordination.k8s.io", "leasecandidates"),
    (READ, "core", "nodes"),
    ("delete get list watch", "core", "pods"),
    ("create", "core", "bindings pods/binding"),
    ("patch update", "core", "pods/status"),
    (READ, "core", "replicationcontrollers services"),
    (READ, "apps extensions", "replicasets"),
    (READ, "apps", "statefulsets"),
    (READ, "policy", "poddisruptionbudgets"),
    (READ, "core", "persistentvolumeclaims persistentvolumes"),
    REVIEW_TOKENS,
    REVIEW_ACCESS,
    (READ, "storage.k8s.io", "csinodes"),
    (READ, "storage.k8s.io", "volumeattachments"),
    (READ, "core", "namespaces"),
    (READ, "storage.k8s.io", "csidrivers"),
    (READ, "storage.k8s.io", "csistoragecapacities"),
    (READ, "resource.k8s.io", "deviceclasses"),
    ("get list patch update watch", "resource.k8s.io", "resourceclaims"),
    ("get list patch update watch", "resource.k8s.io", "resourceclaims/status"),
    ("get list patch update watch", "core", "pods/finalizers"),
    (READ, "resource.k8s.io", "resourceslices"),
    ("patch update", "resource.k8s.io", "resourceclaims/binding"),
)

CONTROLLER_MANAGER: Final[Sequence[RuleRow]] = (
    EVENTS,
    ("create", "coordination.k8s.io", "leases"),
    ("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
    ("create", "core", "secrets serviceaccounts"),
    ("delete", "core", "secrets"),
    ("get", "core", "configmaps namespaces secrets serviceaccounts"),
    ("update", "core", "secrets serviceaccounts"),
    REVIEW_TOKENS,
    REVIEW_ACCESS,
    ("list watch", "*", "*"),
    ("create", "core", "serviceaccounts/token"),
)

# What an agent needs. The node authoriser (`nodes`) narrows it to what has to do with the node; the
# role is there for reference and bound to nobody, as upstream.
NODE: Final[Sequence[RuleRow]] = (
    REVIEW_TOKENS,
    ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    (READ, "core", "services"),
    ("create get list watch", "core", "nodes"),
    ("patch update", "core", "nodes/status"),
    ("patch update", "core", "nodes"),
    ("create patch update", "core", "events"),
    (READ, "core", "pods"),
    ("create delete", "core", "pods"),
    ("patch update", "core", "pods/status"),
    ("create", "core", "pods/eviction"),
    (READ, "core", "configmaps secrets"),
    ("get", "core", "persistentvolumeclaims persistentvolumes"),
    ("get", "core", "endpoints"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("create delete get patch update", "coordination.k8s.io", "leases"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("create", "core", "serviceaccounts/token"),
    ("get patch update", "core", "persistentvolumeclaims/status"),
    (READ, "storage.k8s.io", "csidrivers"),
    ("create delete get patch update", "storage.k8s.io", "csinodes"),
    (READ, "node.k8s.io", "runtimeclasses"),
    ("get", "resource.k8s.io", "resourceclaims"),
    ("deletecollection", "resource.k8s.io", "resourceslices"),
    ("get", "core", "serviceaccounts"),
    (READ, "certificates.k8s.io", "clustertrustbundles"),
)

# Service rules, cluster DNS and network policies are part of the node here, and speak as the node.
NODE_NETWORK: Final[Sequence[RuleRow]] = (
    ("list watch", "core", "namespaces services"),
    ("list watch", "discovery.k8s.io", "endpointslices"),
    ("list watch", "networking.k8s.io", "networkpolicies servicecidrs"),
)

PROXIER: Final[Sequence[RuleRow]] = (
    ("list watch", "core", "endpoints services"),
    (READ, "core", "nodes"),
    EVENTS,
    ("list watch", "networking.k8s.io", "servicecidrs"),
    ("list watch", "discovery.k8s.io", "endpointslices"),
)

CSR: Final = "system:certificates.k8s.io:"
CERTIFICATES: Final = "certificates.k8s.io"

CLUSTER_ROLES: Final[Mapping[str, Sequence[RuleRow]]] = {
    "cluster-admin": (("*", "*", "*"), ("*", "*")),
    "system:discovery": (
        (
            "get",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz"
            " /version /version/",
        ),
    ),
    "system:monitoring": (
        (
            "get",
            "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
        ),
        ("get", "/flagz"),
        ("get", "/statusz"),
    ),
    "system:basic-user": (
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:public-info-viewer": (("get", PUBLIC_PATHS),),
    "system:aggregate-to-admin": AGGREGATE_TO_ADMIN,
    "system:aggregate-to-edit": AGGREGATE_TO_EDIT,
    "system:aggregate-to-view": AGGREGATE_TO_VIEW,
    # What metrics-server brings, whose API is the server's own here.
    "system:aggregated-metrics-reader": ((READ, "metrics.k8s.io", "nodes pods"),),
    "system:heapster": (
        (READ, "core", "events namespaces nodes pods"),
        (READ, "extensions", "deployments"),
    ),
    "system:node": NODE,
    "system:node-problem-detector": (
        ("get", "core", "nodes"),
        ("patch", "core", "nodes/status"),
        EVENTS,
    ),
    "system:kubelet-api-admin": (
        (READ, "core", "nodes"),
        ("proxy", "core", "nodes"),
        ("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
        ("*", "core", "nodes/configz nodes/healthz nodes/pods"),
    ),
    "system:node-bootstrapper": (
        ("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    ),
    "system:auth-delegator": (REVIEW_TOKENS, REVIEW_ACCESS),
    "system:kube-aggregator": ((READ, "core", "endpoints services"),),
    "system:kube-controller-manager": CONTROLLER_MANAGER,
    "system:kube-dns": (("list watch", "core", "endpoints services"),),
    "system:persistent-volume-provisioner": (
        ("create delete get list watch", "core", "persistentvolumes"),
        ("get list update watch", "core", "persistentvolumeclaims"),
        (READ, "storage.k8s.io", "storageclasses"),
        ("watch", "core", "events"),
        EVENTS,
    ),
    CSR + "certificatesigningrequests:nodeclient": (
        ("create", CERTIFICATES, "certificatesigningrequests/nodeclient"),
    ),
    CSR + "certificatesigningrequests:selfnodeclient": (
        ("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient"),
    ),
    "system:volume-scheduler": (
        ("get list patch update watch", "core", "persistentvolumes"),
        (READ, "storage.k8s.io", "storageclasses"),
        ("get list patch update watch", "core", "persistentvolumeclaims"),
    ),
    CSR + "legacy-unknown-approver": (
        ("approve", CERTIFICATES, "signers", "kubernetes.io/legacy-unknown"),
    ),
    CSR + "kubelet-serving-approver": (
        ("approve", CERTIFICATES, "signers", "kubernetes.io/kubelet-serving"),
    ),
    CSR + "kube-apiserver-client-approver": (
        ("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client"),
    ),
    CSR + "kube-apiserver-client-kubelet-approver": (
        ("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
    ),
    "system:service-account-issuer-discovery": (
        ("get", "/.well-known/openid-configuration /.well-known/openid-configuration/"
                " /openid/v1/jwks /openid/v1/jwks/"),
    ),
    "system:cluster-trust-bundle-discovery": ((READ, CERTIFICATES, "clustertrustbundles"),),
    "sampan:node-network": NODE_NETWORK,
    "system:node-proxier": PROXIER,
    "system:kube-scheduler": SCHEDULER,
}  # fmt: skip

AGGREGATED: Final[Mapping[str, Sequence[str]]] = {
    "admin": ("edit", "system:aggregate-to-admin"),
    "edit": ("system:aggregate-to-edit", "view"),
    "view": ("system:aggregate-to-view", "system:aggregated-metrics-reader"),
}
"""Roles whose rules are those of others, found by label `aggregate-to-NAME`; in the order of their
names, in which the aggregation controller adds them up."""

CLUSTER_ROLE_BINDINGS: Final[Mapping[str, tuple[str, str]]] = {
    "cluster-admin": ("group", "system:masters"),
    "system:monitoring": ("group", "system:monitoring"),
    "system:discovery": ("group", "system:authenticated"),
    "system:basic-user": ("group", "system:authenticated"),
    "system:public-info-viewer": ("group", "system:authenticated system:unauthenticated"),
    "system:node-proxier": ("user", "system:kube-proxy"),
    "system:kube-controller-manager": ("user", "system:kube-controller-manager"),
    "system:kube-dns": ("serviceaccount", "kube-dns"),
    "system:kube-scheduler": ("user", "system:kube-scheduler"),
    "system:volume-scheduler": ("user", "system:kube-scheduler"),
    "system:service-account-issuer-discovery": ("group", "system:serviceaccounts"),
    "system:cluster-trust-bundle-discovery": ("group", "system:serviceaccounts"),
    # Without subjects: the node authoriser answers for nodes.
    "system:node": ("group", ""),
    "sampan:node-network": ("group", "system:nodes"),
}
"""Binding (and role) name -> what kind of subject, and their names in words."""

LEADER_LOCKING: Final[Sequence[RuleRow]] = (
    ("create get list update watch", "coordination.k8s.io", "leases"),
    ("create get list update watch", "coordination.k8s.io", "leasecandidates"),
)

NAMESPACE_ROLES: Final[Mapping[tuple[str, str], Sequence[RuleRow]]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        (READ, "core", "configmaps", "extension-apiserver-authentication"),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): ((READ, "core", "secrets"),),
    ("kube-system", "system:controller:cloud-provider"): (
        ("create get list watch", "core", "configmaps"),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        ("delete get list watch", "core", "secrets"),
        EVENTS,
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): LEADER_LOCKING,
    ("kube-system", "system::leader-locking-kube-scheduler"): LEADER_LOCKING,
    # The DNS server of each node publishes its address behind the kube-dns service.
    ("kube-system", "sampan:node-dns"): (
        ("create delete get list patch update watch", "discovery.k8s.io", "endpointslices"),
        ("create", "core", "services"),
        (READ, "core", "configmaps", "kube-dns"),
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        (READ, "core", "configmaps"),
        ("update", "core", "configmaps", "cluster-info"),
        EVENTS,
    ),
}

NAMESPACE_ROLE_BINDINGS: Final[Mapping[tuple[str, str], tuple[str, Sequence[tuple[str, str]]]]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        (("user", "system:kube-controller-manager"), ("user", "system:kube-scheduler")),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        (
            ("user", "system:kube-controller-manager"),
            ("serviceaccount", "kube-controller-manager leader-election-controller"),
        ),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        (("user", "system:kube-scheduler"), ("serviceaccount", "kube-scheduler")),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        (("serviceaccount", "bootstrap-signer"),),
    ),
    ("kube-system", "system:controller:cloud-provider"): (
        "system:controller:cloud-provider",
        (("serviceaccount", "cloud-provider"),),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        "system:controller:token-cleaner",
        (("serviceaccount", "token-cleaner"),),
    ),
    ("kube-system", "sampan:node-dns"): ("sampan:node-dns", (("group", "system:nodes"),)),
    ("kube-public", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        (("serviceaccount", "bootstrap-signer"),),
    ),
}
"""(namespace, binding) -> role and subjects; service accounts are of kube-system."""
