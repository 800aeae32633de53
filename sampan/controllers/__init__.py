"""One file per controller; CONTROLLERS lists them. Level-based: the queue holds names.

A controller reads informers and writes through the client; `plan` is pure, reconcile is thin.
"""

from .attachdetach import AttachDetachController
from .bootstraptokens import BootstrapTokenController
from .certificates import CertificateController
from .cronjob import CronJobController
from .daemonset import DaemonSetController
from .deployment import DeploymentController
from .devicetainteviction import DeviceTaintEvictionController
from .disruption import DisruptionController, StaleDisruptionController
from .endpoints import EndpointsController
from .endpointslice import EndpointSliceController
from .endpointslicemirroring import EndpointSliceMirroringController
from .ephemeralvolume import EphemeralVolumeController
from .garbage import GarbageCollector
from .gatewayports import GatewayPortsController
from .horizontalpodautoscaler import HorizontalPodAutoscalerController
from .ingressdefaults import IngressDefaultsController
from .ipaddress import IpAddressController
from .job import JobController
from .joborphans import JobOrphanController
from .legacytokencleaner import LegacyTokenCleaner
from .legacytokens import LegacyTokenController
from .loadbalancer import LoadBalancerController
from .localvolumes import LocalVolumeController
from .namespace import NamespaceController
from .node import NodeController
from .nodedns import NodeDnsController
from .nodeipam import NodeIpamController
from .ownobjects import OwnObjectsController
from .podgc import PodGcController
from .policystatus import PolicyStatusController
from .protection import (
    AttributesProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from .replicaset import ReplicaSetController
from .replicationcontroller import ReplicationControllerController
from .resourceclaim import ResourceClaimController
from .resourcequota import ResourceQuotaController
from .roleaggregation import RoleAggregationController
from .rootca import RootCaController
from .runtime.controller import Controller
from .serviceaccount import ServiceAccountController
from .servicecidr import ServiceCidrController
from .snapshots import SnapshotController
from .statefulset import StatefulSetController
from .storageversionmigrator import StorageVersionMigrator
from .tainteviction import TaintEvictionController
from .ttlafterfinished import TtlAfterFinishedController
from .volumebinder import VolumeBinderController

CONTROLLERS: tuple[type[Controller], ...] = (
    ServiceAccountController,
    RootCaController,
    NamespaceController,
    DeploymentController,
    ReplicaSetController,
    ReplicationControllerController,
    StatefulSetController,
    DaemonSetController,
    JobController,
    JobOrphanController,
    CronJobController,
    TtlAfterFinishedController,
    EndpointSliceController,
    EndpointSliceMirroringController,
    EndpointsController,
    LoadBalancerController,
    IngressDefaultsController,
    GatewayPortsController,
    OwnObjectsController,
    ServiceCidrController,
    IpAddressController,
    NodeIpamController,
    CertificateController,
    NodeController,
    NodeDnsController,
    TaintEvictionController,
    DeviceTaintEvictionController,
    PodGcController,
    DisruptionController,
    StaleDisruptionController,
    HorizontalPodAutoscalerController,
    ResourceQuotaController,
    RoleAggregationController,
    LegacyTokenController,
    LegacyTokenCleaner,
    BootstrapTokenController,
    PolicyStatusController,
    EphemeralVolumeController,
    ResourceClaimController,
    VolumeBinderController,
    AttachDetachController,
    LocalVolumeController,
    SnapshotController,
    ClaimProtectionController,
    VolumeProtectionController,
    AttributesProtectionController,
    StorageVersionMigrator,
    GarbageCollector,
)
