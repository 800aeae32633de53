"""The roles of single controllers, as data; each is bound to kube-system's service account of the
same name. Written as in `roles.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .roles import EVENTS, READ, REVIEW_ACCESS, RuleRow

RESOURCE: Final = "resource.k8s.io"
STORAGE: Final = "storage.k8s.io"
CERTIFICATES: Final = "certificates.k8s.io"
APPS: Final = "apps extensions"
PODS_OF_OWNER: Final = ("create delete list patch watch", "core", "pods")

CONTROLLER_ROLES: Final[Mapping[str, Sequence[RuleRow]]] = {
    "attachdetach-controller": (
        ("list watch", "core", "persistentvolumeclaims persistentvolumes"),
        (READ, "core", "nodes"),
        ("patch update", "core", "nodes/status"),
        ("list watch", "core", "pods"),
        EVENTS,
        ("create delete get list watch", STORAGE, "volumeattachments"),
        (READ, STORAGE, "csidrivers"),
        (READ, STORAGE, "csinodes"),
    ),
    "clusterrole-aggregation-controller": (
        ("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles"),
    ),
    "cronjob-controller": (
        ("get list update watch", "batch", "cronjobs"),
        ("create delete get list patch update watch", "batch", "jobs"),
        ("update", "batch", "cronjobs/status"),
        ("update", "batch", "cronjobs/finalizers"),
        ("delete list watch", "core", "pods"),
        EVENTS,
    ),
    "daemon-set-controller": (
        (READ, APPS, "daemonsets"),
        ("update", APPS, "daemonsets/status"),
        ("update", APPS, "daemonsets/finalizers"),
        ("list watch", "core", "nodes"),
        PODS_OF_OWNER,
        ("create", "core", "pods/binding"),
        ("create delete get list patch update watch", "apps", "controllerrevisions"),
        EVENTS,
    ),
    "deployment-controller": (
        ("get list update watch", APPS, "deployments"),
        ("update", APPS, "deployments/status"),
        ("update", APPS, "deployments/finalizers"),
        ("create delete get list patch update watch", APPS, "replicasets"),
        ("get list update watch", "core", "pods"),
        EVENTS,
    ),
    "disruption-controller": (
        (READ, APPS, "deployments"),
        (READ, APPS, "replicasets"),
        (READ, "core", "replicationcontrollers"),
        (READ, "policy", "poddisruptionbudgets"),
        (READ, "apps", "statefulsets"),
        ("update", "policy", "poddisruptionbudgets/status"),
        ("patch update", "core", "pods/status"),
        ("get", "*", "*/scale"),
        EVENTS,
    ),
    "endpoint-controller": (
        (READ, "core", "pods services"),
        ("create delete get list update watch", "core", "endpoints"),
        ("create", "core", "endpoints/restricted"),
        EVENTS,
    ),
    "endpointslice-controller": (
        (READ, "core", "nodes pods services"),
        ("update", "core", "services/finalizers"),
        ("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
        EVENTS,
    ),
    "endpointslicemirroring-controller": (
        (READ, "core", "endpoints services"),
        ("update", "core", "services/finalizers"),
        ("update", "core", "endpoints/finalizers"),
        ("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
        EVENTS,
    ),
    "expand-controller": (
        ("get list patch update watch", "core", "persistentvolumes"),
        ("patch update", "core", "persistentvolumeclaims/status"),
        (READ, "core", "persistentvolumeclaims"),
        EVENTS,
    ),
    "ephemeral-volume-controller": (
        (READ, "core", "pods"),
        ("update", "core", "pods/finalizers"),
        ("create get list watch", "core", "persistentvolumeclaims"),
        EVENTS,
    ),
    "resource-claim-controller": (
        (READ, "core", "pods"),
        ("update", "core", "pods/finalizers"),
        ("create delete get list watch", RESOURCE, "resourceclaims"),
        ("patch update", RESOURCE, "resourceclaims resourceclaims/status"),
        ("patch update", "core", "pods/status"),
        EVENTS,
        ("patch update", RESOURCE, "resourceclaims/binding"),
    ),
    "device-taint-eviction-controller": (
        ("delete get list watch", "core", "pods"),
        ("patch update", "core", "pods/status"),
        (READ, RESOURCE, "resourceclaims"),
        (READ, RESOURCE, "resourceslices"),
        (READ, RESOURCE, "deviceclasses"),
        EVENTS,
    ),
    "generic-garbage-collector": (
        ("delete get list patch update watch", "*", "*"),
        EVENTS,
    ),
    "horizontal-pod-autoscaler": (
        (READ, "autoscaling", "horizontalpodautoscalers"),
        ("update", "autoscaling", "horizontalpodautoscalers/status"),
        ("get update", "*", "*/scale"),
        ("list watch", "core", "pods"),
        ("list watch", "metrics.k8s.io", "pods"),
        (READ, "custom.metrics.k8s.io", "*"),
        (READ, "external.metrics.k8s.io", "*"),
        EVENTS,
    ),
    "job-controller": (
        ("get list patch update watch", "batch", "jobs"),
        ("update", "batch", "jobs/status"),
        ("update", "batch", "jobs/finalizers"),
        PODS_OF_OWNER,
        EVENTS,
    ),
    "namespace-controller": (
        ("delete get list watch", "core", "namespaces"),
        ("update", "core", "namespaces/finalize namespaces/status"),
        ("delete deletecollection get list watch", "*", "*"),
    ),
    "node-controller": (
        ("delete get list patch update watch", "core", "nodes"),
        ("patch update", "core", "nodes/status"),
        ("patch update", "core", "pods/status"),
        ("delete get list watch", "core", "pods"),
        EVENTS,
    ),
    "persistent-volume-binder": (
        ("create delete get list update watch", "core", "persistentvolumes"),
        ("update", "core", "persistentvolumes/status"),
        ("get list update watch", "core", "persistentvolumeclaims"),
        ("update", "core", "persistentvolumeclaims/status"),
        ("create delete get list watch", "core", "pods"),
        (READ, STORAGE, "storageclasses"),
        ("list watch", "core", "nodes"),
        EVENTS,
        ("watch", "core", "events"),
    ),
    "pod-garbage-collector": (
        ("delete list watch", "core", "pods"),
        (READ, "core", "nodes"),
        ("patch", "core", "pods/status"),
    ),
    "replicaset-controller": (
        ("get list update watch", APPS, "replicasets"),
        ("update", APPS, "replicasets/status"),
        ("update", APPS, "replicasets/finalizers"),
        PODS_OF_OWNER,
        EVENTS,
    ),
    "replication-controller": (
        ("get list update watch", "core", "replicationcontrollers"),
        ("update", "core", "replicationcontrollers/status"),
        ("update", "core", "replicationcontrollers/finalizers"),
        PODS_OF_OWNER,
        EVENTS,
    ),
    "resourcequota-controller": (
        ("list watch", "*", "*"),
        ("update", "core", "resourcequotas/status"),
        EVENTS,
    ),
    "route-controller": (
        ("list watch", "core", "nodes"),
        ("patch", "core", "nodes/status"),
        EVENTS,
    ),
    "service-account-controller": (("create", "core", "serviceaccounts"), EVENTS),
    "service-controller": (
        (READ, "core", "services"),
        ("patch update", "core", "services/status"),
        ("list watch", "core", "nodes"),
        EVENTS,
    ),
    "service-cidrs-controller": (
        ("get list patch update watch", "networking.k8s.io", "servicecidrs"),
        ("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
        ("patch update", "networking.k8s.io", "servicecidrs/status"),
        (READ, "networking.k8s.io", "ipaddresses"),
        EVENTS,
    ),
    "statefulset-controller": (
        ("list watch", "core", "pods"),
        (READ, "apps", "statefulsets"),
        ("update", "apps", "statefulsets/status"),
        ("update", "apps", "statefulsets/finalizers"),
        ("create delete get patch update", "core", "pods"),
        ("create delete get list patch update watch", "apps", "controllerrevisions"),
        ("create get list watch", "core", "persistentvolumeclaims"),
        ("delete update", "core", "persistentvolumeclaims"),
        ("update", "core", "pods/finalizers"),
        EVENTS,
    ),
    # Upstream's where its gate StorageVersionMigrator is on.
    "storage-version-migrator-controller": (
        ("create list patch", "*", "*"),
        ("update", "storagemigration.k8s.io", "storageversionmigrations/status"),
        ("get", "apiextensions.k8s.io", "customresourcedefinitions"),
    ),
    "ttl-controller": (("list patch update watch", "core", "nodes"), EVENTS),
    "certificate-controller": (
        ("delete get list watch", CERTIFICATES, "certificatesigningrequests"),
        (
            "update",
            CERTIFICATES,
            "certificatesigningrequests/approval certificatesigningrequests/status",
        ),
        ("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
        (
            "sign",
            CERTIFICATES,
            "signers",
            "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet"
            " kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
        ),
        REVIEW_ACCESS,
        EVENTS,
    ),
    "pvc-protection-controller": (
        ("get list update watch", "core", "persistentvolumeclaims"),
        (READ, "core", "pods"),
        EVENTS,
    ),
    "pv-protection-controller": (
        ("get list update watch", "core", "persistentvolumes"),
        EVENTS,
    ),
    "volumeattributesclass-protection-controller": (
        (READ, "core", "persistentvolumeclaims"),
        (READ, "core", "persistentvolumes"),
        ("get list update watch", STORAGE, "volumeattributesclasses"),
        EVENTS,
    ),
    "ttl-after-finished-controller": (("delete get list watch", "batch", "jobs"), EVENTS),
    "root-ca-cert-publisher": (("create update", "core", "configmaps"), EVENTS),
    "validatingadmissionpolicy-status-controller": (
        (READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        (
            "get patch update",
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies/status",
        ),
        EVENTS,
    ),
    "legacy-service-account-token-cleaner": (
        ("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
        ("delete patch", "core", "secrets"),
    ),
    "selinux-warning-controller": (
        EVENTS,
        (READ, "core", "persistentvolumes"),
        (READ, "core", "persistentvolumeclaims"),
        (READ, "core", "pods"),
        (READ, STORAGE, "csidrivers"),
    ),
}
