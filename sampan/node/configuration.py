"""The node's configuration as kubelet shows it at /configz: what is chosen, and what is fixed."""

from __future__ import annotations

from typing import Any

from .config import NodeConfig
from .registration import LEASE_S, RENEW_S, REPORT_S
from .thresholds import ALLOCATABLE, Threshold


def configuration(config: NodeConfig) -> dict[str, Any]:
    """A KubeletConfiguration; with it as kubelet.yaml a node would be the same."""
    settings = config.settings
    hard = [item for item in settings.thresholds if not item.grace_s]
    soft = [item for item in settings.thresholds if item.grace_s]
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": str(config.static_pods or config.data / "manifests"),
        "address": config.listen_host,
        "authentication": {
            "x509": {"clientCAFile": str(config.ca_cert)},
            "webhook": {"enabled": True, "cacheTTL": "2m0s"},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.dns_ip],
        "streamingConnectionIdleTimeout": f"{config.streaming_idle_s:g}s",
        "nodeStatusUpdateFrequency": f"{RENEW_S:g}s",
        "nodeStatusReportFrequency": f"{REPORT_S:g}s",
        "nodeLeaseDurationSeconds": LEASE_S,
        "maxPods": settings.max_pods,
        "podPidsLimit": settings.pod_pids or -1,
        "podCIDR": config.pod_cidr,
        "evictionHard": _amounts(hard),
        "evictionSoft": _amounts(soft),
        "evictionSoftGracePeriod": {item.signal: f"{item.grace_s:g}s" for item in soft},
        "evictionMinimumReclaim": {
            item.signal: item.reclaim for item in settings.thresholds if item.reclaim
        },
        "evictionPressureTransitionPeriod": f"{settings.transition_s:g}s",
        "evictionMaxPodGracePeriod": int(settings.soft_grace_s),
        "systemReserved": dict(settings.system_reserved),
        "kubeReserved": dict(settings.kube_reserved),
        "enforceNodeAllocatable": ["pods"] if settings.enforced else ["none"],
        "allowedUnsafeSysctls": list(settings.unsafe_sysctls),
        "cpuManagerPolicy": "static" if settings.static_cpus else "none",
        "reservedSystemCPUs": settings.reserved_cpus,
        "containerLogMaxSize": str(settings.log_bytes),
        "containerLogMaxFiles": settings.log_files,
        "imageGCHighThresholdPercent": settings.image_high_percent,
        "imageGCLowThresholdPercent": settings.image_low_percent,
        "imageMinimumGCAge": f"{settings.image_minimum_age_s:g}s",
        "imageMaximumGCAge": f"{settings.image_maximum_age_s:g}s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": f"{settings.crash_cap_s:g}s"},
        "imagePullCredentialsVerificationPolicy": settings.image_verification,
        "preloadedImagesVerificationAllowlist": list(settings.image_allowlist),
        "serializeImagePulls": False,
        "seccompDefault": True,
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
    }


def _amounts(thresholds: list[Threshold]) -> dict[str, str]:
    return {item.signal: item.value for item in thresholds if item.signal != ALLOCATABLE}
