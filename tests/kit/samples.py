"""A valid object of every kind that is stored: the least that each accepts, without its name."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin

from .cluster import Cluster, server_files

POD: dict[str, Any] = {"containers": [{"name": "c0", "image": "web"}]}
LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
JOB_TEMPLATE = {"spec": {**POD, "restartPolicy": "Never"}}
SELECTOR = {"matchLabels": LABELS}
RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
WEBHOOK = {
    "name": "a.example.com",
    "admissionReviewVersions": ["v1"],
    "sideEffects": "None",
    "failurePolicy": "Ignore",
    "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": [],
}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
CONSTRAINTS = {
    "resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}
    ]
}
DEVICES = {"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]}

# By kind; what is not here needs no more than a name.
SAMPLES: dict[str, dict[str, Any]] = {
    "APIService": {
        "spec": {
            "group": "a.example.com", "version": "v1", "groupPriorityMinimum": 100,
            "versionPriority": 10, "service": {"name": "none", "namespace": "default"},
        }
    },
    "CSIDriver": {"spec": {}},
    "CSINode": {"spec": {"drivers": []}},
    "CSIStorageCapacity": {"storageClassName": "x"},
    "ClusterRole": {"rules": RULES},
    "ClusterRoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    },
    "ControllerRevision": {"revision": 1, "data": {}},
    "CronJob": {
        "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}
    },
    "CustomResourceDefinition": {
        "spec": {
            "group": "fuzz.example.com",
            "names": {"kind": "Thing", "plural": "things"},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True,
                 "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        }
    },
    "DaemonSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "Deployment": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "DeviceClass": {"spec": {}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": []},
    "Event": {
        "involvedObject": {"namespace": "default", "kind": "Pod", "name": "x"},
        "reason": "x", "message": "x", "type": "Normal",
    },
    "FlowSchema": {"spec": {"priorityLevelConfiguration": {"name": "exempt"}}},
    "HorizontalPodAutoscaler": {
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
        }
    },
    "IPAddress": {
        "spec": {"parentRef": {"resource": "services", "name": "x", "namespace": "default"}}
    },
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}},
    "IngressClass": {"spec": {"controller": "example.com/x"}},
    "Job": {"spec": {"template": JOB_TEMPLATE}},
    "Lease": {"spec": {}},
    "LimitRange": {"spec": {"limits": []}},
    "MutatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": CONSTRAINTS, "reinvocationPolicy": "Never",
            "mutations": [
                {"patchType": "ApplyConfiguration",
                 "applyConfiguration": {"expression": "Object{}"}}
            ],
        }
    },
    "MutatingAdmissionPolicyBinding": {"spec": {"policyName": "f0"}},
    "MutatingWebhookConfiguration": {"webhooks": [WEBHOOK]},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "PersistentVolume": {
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/data"},
        }
    },
    "PersistentVolumeClaim": {"spec": CLAIM},
    "Pod": {"spec": POD},
    "PodDisruptionBudget": {"spec": {"selector": SELECTOR, "minAvailable": 1}},
    "PodTemplate": {"template": TEMPLATE},
    "PriorityClass": {"value": 10},
    "PriorityLevelConfiguration": {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
    },
    "ReplicaSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "ReplicationController": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "ResourceClaim": {"spec": {"devices": DEVICES}},
    "ResourceClaimTemplate": {"spec": {"spec": {"devices": DEVICES}}},
    "ResourceQuota": {"spec": {"hard": {"count/widgets.example.com": "5"}}},
    "ResourceSlice": {
        "spec": {
            "driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }
    },
    "Role": {"rules": RULES},
    "RoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    },
    "RuntimeClass": {"handler": "crun"},
    "Service": {"spec": {"selector": LABELS, "ports": [{"port": 80}]}},
    "StorageVersionMigration": {
        "spec": {"resource": {"group": "example.com", "resource": "widgets"}}
    },
    "ServiceCIDR": {"spec": {"cidrs": ["10.99.0.0/24"]}},
    "StatefulSet": {"spec": {"selector": SELECTOR, "serviceName": "x", "template": TEMPLATE}},
    "StorageClass": {"provisioner": "example.com/x"},
    "ValidatingAdmissionPolicy": {
        "spec": {"matchConstraints": CONSTRAINTS, "validations": [{"expression": "true"}]}
    },
    "ValidatingAdmissionPolicyBinding": {
        "spec": {"policyName": "f0", "validationActions": ["Deny"]}
    },
    "ValidatingWebhookConfiguration": {"webhooks": [WEBHOOK]},
    "VolumeAttachment": {
        "spec": {
            "attacher": "csi.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "x"},
        }
    },
    "VolumeAttributesClass": {"driverName": "csi.example.com", "parameters": {"a": "b"}},
}  # fmt: skip

# Objects whose name is not free.
NAMES = {
    "APIService": "v1.a.example.com",
    "CustomResourceDefinition": "things.fuzz.example.com",
    "IPAddress": "10.96.7.7",
}


def sample(resource: Descriptor, name: str) -> dict[str, Any]:
    """A valid object of a kind, as one would post it."""
    made = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": NAMES.get(resource.kind, name)},
        **SAMPLES.get(resource.kind, {}),
    }
    if resource.group == "events.k8s.io":
        del made["involvedObject"], made["message"]
        made |= {
            "eventTime": "2026-01-01T00:00:00.000000Z", "action": "x", "regarding": {},
            "reportingController": "example.com/x", "reportingInstance": "x",
        }  # fmt: skip
    if resource.kind == "CertificateSigningRequest":
        made["spec"] = {
            "request": signing_request(),
            "signerName": "example.com/signer",
            "usages": ["client auth"],
        }
    if resource.kind == "ClusterTrustBundle":
        made["spec"] = {"trustBundle": (server_files() / "ca.crt").read_text()}
    return made


@cache
def signing_request() -> str:
    """A PKCS#10 request in PEM, in base64."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sample")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


async def seed(cluster: Cluster, name: str) -> list[Descriptor]:
    """Create one object of every kind that can be created and read again, all by the same name;
    those are returned. A second version of a kind finds what the first made."""
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    made = []
    for resource in builtin():
        if not {"create", "get"} <= {*resource.verbs}:
            continue
        namespace = "default" if resource.namespaced else ""
        answer = await cluster.http("POST", resource.path(namespace), sample(resource, name))
        assert answer.status in (201, 409), (resource.kind, answer.body)
        made.append(resource)
    return made
