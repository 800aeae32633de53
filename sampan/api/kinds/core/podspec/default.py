"""Defaults of a pod spec, as pkg/apis/core/v1/defaults.go sets them.

`default_spec` is for pods and templates alike; `default_pod_only` adds what only a Pod gets. Both
change the spec in place and are idempotent.
"""

from __future__ import annotations

from ....errors import Object

GRACE_PERIOD_S = 30
TOKEN_EXPIRATION_S = 3600
FILE_MODE = 0o644
CLAIM_MODE = "Filesystem"

# Volume types whose files get a mode.
_MODES = ("configMap", "secret", "downwardAPI", "projected")


def default_spec(spec: Object) -> None:
    """Defaults of every pod spec, in a pod or in a template."""
    put = spec.setdefault
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    put("securityContext", {})
    put("terminationGracePeriodSeconds", GRACE_PERIOD_S)
    account = spec.get("serviceAccountName")
    if account:
        # The deprecated alias follows, as upstream's conversion has it.
        spec["serviceAccount"] = account
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for container in spec.get("containers") or ():
        _default_container(container)
    if "initContainers" in spec:
        for container in spec["initContainers"] or ():
            _default_container(container)
    if "ephemeralContainers" in spec:
        for container in spec["ephemeralContainers"] or ():
            _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def default_pod_only(spec: Object) -> None:
    """Defaults that a Pod has and a template has not."""
    spec.setdefault("enableServiceLinks", True)
    host_network = spec.get("hostNetwork")
    for name in ("initContainers", "containers"):
        for container in spec.get(name) or ():
            limits = container["resources"].get("limits")
            if limits:
                requests = container["resources"].setdefault("requests", {})
                for key, value in limits.items():
                    requests.setdefault(key, value)
            if host_network:
                for port in container.get("ports") or ():
                    if not port.get("hostPort") and "containerPort" in port:
                        port["hostPort"] = port["containerPort"]
    if spec.get("resources"):
        _default_pod_resources(spec, spec["resources"])


def _default_pod_resources(spec: Object, resources: Object) -> None:
    """Pod-level requests follow the containers', else the pod-level limits (KEP-2837)."""
    from .resources import total_requests

    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.setdefault("requests", {})
    for key, value in total_requests(spec).items():
        if key in ("cpu", "memory"):
            requests.setdefault(key, value)
    for key, value in limits.items():
        requests.setdefault(key, value)


def pull_policy(image: str) -> str:
    """Always for the tag latest, given or implied; never for a digest."""
    if "@" in image:
        return "IfNotPresent"
    _, _, tag = image[image.rfind("/") + 1 :].partition(":")
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _default_container(container: Object) -> None:
    get = container.get
    if not get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(get("image") or "")
    if not get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if get("resources") is None:
        container["resources"] = {}
    for port in get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in get("env") or ():
        if "valueFrom" in variable:
            _default_field_sources(variable["valueFrom"] or {})
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container and container[name] is not None:
            _default_probe(container[name])
    if get("lifecycle"):
        for hook in container["lifecycle"].values():
            if isinstance(hook, dict) and hook.get("httpGet"):
                _default_http_get(hook["httpGet"])


def _default_probe(probe: Object) -> None:
    if not probe.get("timeoutSeconds"):
        probe["timeoutSeconds"] = 1
    if not probe.get("periodSeconds"):
        probe["periodSeconds"] = 10
    if not probe.get("successThreshold"):
        probe["successThreshold"] = 1
    if not probe.get("failureThreshold"):
        probe["failureThreshold"] = 3
    if probe.get("httpGet"):
        _default_http_get(probe["httpGet"])
    elif probe.get("grpc"):
        probe["grpc"].setdefault("service", "")


def _default_http_get(action: Object) -> None:
    if not action.get("path"):
        action["path"] = "/"
    if not action.get("scheme"):
        action["scheme"] = "HTTP"


def _default_field_sources(source: Object) -> None:
    """fieldRef.apiVersion and resourceFieldRef.divisor, of env and downward volumes."""
    reference = source.get("fieldRef")
    if reference and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"
    resource = source.get("resourceFieldRef")
    if resource:
        # Quantities always print; the unset one as zero.
        resource.setdefault("divisor", "0")


def _default_volume(volume: Object) -> None:
    if len(volume) < 2:
        volume["emptyDir"] = {}
        return
    if volume.get("emptyDir") is not None:
        return
    for name in _MODES:
        source = volume.get(name)
        if source is not None:
            source.setdefault("defaultMode", FILE_MODE)
            if name == "downwardAPI":
                _default_files(source)
            elif name == "projected":
                _default_projected(source)
            return
    if volume.get("hostPath") is not None:
        volume["hostPath"].setdefault("type", "")
    elif volume.get("image") is not None and not volume["image"].get("pullPolicy"):
        volume["image"]["pullPolicy"] = pull_policy(volume["image"].get("reference") or "")
    elif volume.get("ephemeral") is not None:
        template = volume["ephemeral"].get("volumeClaimTemplate") or {}
        if template.get("spec") is not None:
            template["spec"].setdefault("volumeMode", CLAIM_MODE)
    else:
        default_network_volume(volume)


def _default_files(source: Object) -> None:
    for item in source.get("items") or ():
        _default_field_sources(item)


def _default_projected(source: Object) -> None:
    for item in source.get("sources") or ():
        # Off by default in 1.36 (PodCertificateRequest): dropped without a word, as upstream.
        item.pop("podCertificate", None)
        token = item.get("serviceAccountToken")
        if token is not None:
            token.setdefault("expirationSeconds", TOKEN_EXPIRATION_S)
        elif item.get("downwardAPI"):
            _default_files(item["downwardAPI"])


def default_network_volume(volume: Object) -> None:
    """Volume types that drivers took over, whose defaults remain."""
    if volume.get("iscsi"):
        if not volume["iscsi"].get("iscsiInterface"):
            volume["iscsi"]["iscsiInterface"] = "default"
    elif volume.get("rbd"):
        for name, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
            if not volume["rbd"].get(name):
                volume["rbd"][name] = value
    elif volume.get("azureDisk"):
        disk = volume["azureDisk"]
        for name, value in (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")):
            disk.setdefault(name, value)
        disk.setdefault("readOnly", False)
    elif volume.get("scaleIO"):
        for name, value in (("storageMode", "ThinProvisioned"), ("fsType", "xfs")):
            if not volume["scaleIO"].get(name):
                volume["scaleIO"][name] = value
