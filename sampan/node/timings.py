"""How long things took: histograms with upstream's names, labels and bounds (pkg/kubelet/metrics,
pkg/kubelet/server/metrics, client-go's metrics, pkg/volume/util). Pure additions on the way.

Absent, since nothing here does what they measure: `kubelet_pleg_*` (exits are told, not looked
for) and `kubelet_cgroup_manager_*` (crun makes and removes cgroups with their containers).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sampan.wire.exposition import Buckets

DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""client_golang's DefBuckets."""
START_BOUNDS = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200,
    1800, 2700, 3600,
)  # fmt: skip
PULL_BOUNDS = (
    1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
OPERATION_BOUNDS = tuple(0.005 * 2.5**power for power in range(14))
STATUS_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60)
STORAGE_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
CSI_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
REQUEST_BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

POD_START = "kubelet_pod_start_duration_seconds"
POD_START_SLI = "kubelet_pod_start_sli_duration_seconds"
POD_START_TOTAL = "kubelet_pod_start_total_duration_seconds"
POD_WORKER = "kubelet_pod_worker_duration_seconds"
POD_STATUS = "kubelet_pod_status_sync_duration_seconds"
RUN_SANDBOX = "kubelet_run_podsandbox_duration_seconds"
OPERATION = "kubelet_runtime_operations_duration_seconds"
IMAGE_PULL = "kubelet_image_pull_duration_seconds"
STORAGE = "storage_operation_duration_seconds"
CSI = "csi_operations_seconds"
ANSWER = "kubelet_http_requests_duration_seconds"
REQUEST = "rest_client_request_duration_seconds"


MIB, GIB = 2**20, 2**30
SIZES = (
    (100 * GIB, "GT100GB"), (60 * GIB, "60GB-100GB"), (40 * GIB, "40GB-60GB"),
    (30 * GIB, "30GB-40GB"), (20 * GIB, "20GB-30GB"), (10 * GIB, "10GB-20GB"),
    (5 * GIB, "5GB-10GB"), (GIB, "1GB-5GB"), (500 * MIB, "500MB-1GB"), (100 * MIB, "100MB-500MB"),
    (10 * MIB, "10MB-100MB"), (0, "0-10MB"),
)  # fmt: skip


class Timing(Struct, frozen=True):
    """What one family is."""

    text: str
    labels: Sequence[str] = ()
    bounds: Sequence[float] = DEFAULT_BOUNDS


SINCE_CREATION = (
    "measured from pod creation timestamp to when all its containers are reported as started and "
    "observed via watch"
)
TIMINGS = {
    POD_START: Timing(
        "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to "
        "run", (), START_BOUNDS),
    POD_START_SLI: Timing(
        "Duration in seconds to start a pod, excluding time to pull images and run init "
        f"containers, {SINCE_CREATION}", (), START_BOUNDS),
    POD_START_TOTAL: Timing(
        "Duration in seconds to start a pod since creation, including time to pull images and run "
        f"init containers, {SINCE_CREATION}", (), START_BOUNDS),
    POD_WORKER: Timing(
        "Duration in seconds to sync a single pod. Broken down by operation type: create, update, "
        "or sync", ("operation_type",)),
    POD_STATUS: Timing(
        "Duration in seconds to sync a pod status update. Measures time from detection of a change "
        "to pod status until the API is successfully updated for that pod, even if multiple "
        "intevening changes to pod status occur.", (), STATUS_BOUNDS),
    RUN_SANDBOX: Timing(
        "Duration in seconds of the run_podsandbox operations. Broken down by "
        "RuntimeClass.Handler.", ("runtime_handler",)),
    OPERATION: Timing(
        "Duration in seconds of runtime operations. Broken down by operation type.",
        ("operation_type",), OPERATION_BOUNDS),
    IMAGE_PULL: Timing(
        "Duration in seconds to pull an image.", ("image_size_in_bytes",), PULL_BOUNDS),
    STORAGE: Timing(
        "Storage operation duration", ("volume_plugin", "operation_name", "status", "migrated"),
        STORAGE_BOUNDS),
    CSI: Timing(
        "Container Storage Interface operation duration with gRPC error code status total",
        ("driver_name", "method_name", "grpc_status_code", "migrated"), CSI_BOUNDS),
    ANSWER: Timing(
        "Duration in seconds to serve http requests",
        ("method", "path", "server_type", "long_running")),
    REQUEST: Timing(
        "Request latency in seconds. Broken down by verb, and host.", ("verb", "host"),
        REQUEST_BOUNDS),
}  # fmt: skip


def size_class(size_bytes: int) -> str:
    """How a pull is labelled by the size of its image (GetImageSizeBucket)."""
    return next((name for above, name in SIZES if size_bytes > above), "N/A")


Series = dict[tuple[str, ...], Buckets]
"""By the values of a family's labels."""
