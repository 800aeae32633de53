"""What we write by hand about every built-in kind: one file each, listed in `KINDS`.

Defaults, validation, columns and storage prefixes follow Kubernetes 1.36. The list is explicit: an
import here and a line in `KINDS`, nothing is found by scanning. No I/O, no state.
"""

from __future__ import annotations

from ..descriptor import Kind
from .admissionregistration import (
    mutatingadmissionpolicy,
    mutatingadmissionpolicybinding,
    mutatingwebhookconfiguration,
    validatingadmissionpolicy,
    validatingadmissionpolicybinding,
    validatingwebhookconfiguration,
)
from .apiextensions import customresourcedefinition
from .apiregistration import apiservice
from .apps import controllerrevision, daemonset, deployment, replicaset, statefulset
from .authentication import selfsubjectreview, tokenreview
from .authorization import (
    localsubjectaccessreview,
    selfsubjectaccessreview,
    selfsubjectrulesreview,
    subjectaccessreview,
)
from .autoscaling import horizontalpodautoscaler, horizontalpodautoscaler_v1
from .batch import cronjob, job
from .certificates import certificatesigningrequest, clustertrustbundle
from .coordination import lease
from .core import (
    binding,
    componentstatus,
    configmap,
    endpoints,
    event,
    limitrange,
    namespace,
    persistentvolume,
    persistentvolumeclaim,
    pod,
    podtemplate,
    replicationcontroller,
    resourcequota,
    secret,
    service,
    serviceaccount,
)
from .core import (
    node as core_node,
)
from .discovery import endpointslice
from .events import event as events_event
from .flowcontrol import flowschema, prioritylevelconfiguration
from .networking import ingress, ingressclass, ipaddress, networkpolicy, servicecidr
from .node import runtimeclass
from .policy import poddisruptionbudget
from .rbac import clusterrole, clusterrolebinding, role, rolebinding
from .resource import deviceclass, resourceclaim, resourceclaimtemplate, resourceslice
from .scheduling import priorityclass
from .storage import (
    csidriver,
    csinode,
    csistoragecapacity,
    storageclass,
    volumeattachment,
    volumeattributesclass,
)
from .storagemigration import storageversionmigration

KINDS: tuple[Kind, ...] = (
    binding.KIND,
    componentstatus.KIND,
    configmap.KIND,
    endpoints.KIND,
    event.KIND,
    limitrange.KIND,
    namespace.KIND,
    core_node.KIND,
    persistentvolume.KIND,
    persistentvolumeclaim.KIND,
    pod.KIND,
    podtemplate.KIND,
    replicationcontroller.KIND,
    resourcequota.KIND,
    secret.KIND,
    service.KIND,
    serviceaccount.KIND,
    mutatingadmissionpolicy.KIND,
    mutatingadmissionpolicybinding.KIND,
    mutatingwebhookconfiguration.KIND,
    validatingadmissionpolicy.KIND,
    validatingadmissionpolicybinding.KIND,
    validatingwebhookconfiguration.KIND,
    customresourcedefinition.KIND,
    apiservice.KIND,
    controllerrevision.KIND,
    daemonset.KIND,
    deployment.KIND,
    replicaset.KIND,
    statefulset.KIND,
    selfsubjectreview.KIND,
    tokenreview.KIND,
    localsubjectaccessreview.KIND,
    selfsubjectaccessreview.KIND,
    selfsubjectrulesreview.KIND,
    subjectaccessreview.KIND,
    horizontalpodautoscaler_v1.KIND,
    horizontalpodautoscaler.KIND,
    cronjob.KIND,
    job.KIND,
    certificatesigningrequest.KIND,
    clustertrustbundle.KIND,
    lease.KIND,
    endpointslice.KIND,
    events_event.KIND,
    flowschema.KIND,
    prioritylevelconfiguration.KIND,
    ipaddress.KIND,
    ingress.KIND,
    ingressclass.KIND,
    networkpolicy.KIND,
    servicecidr.KIND,
    runtimeclass.KIND,
    poddisruptionbudget.KIND,
    clusterrole.KIND,
    clusterrolebinding.KIND,
    role.KIND,
    rolebinding.KIND,
    deviceclass.KIND,
    resourceclaim.KIND,
    resourceclaimtemplate.KIND,
    resourceslice.KIND,
    priorityclass.KIND,
    csidriver.KIND,
    csinode.KIND,
    csistoragecapacity.KIND,
    storageclass.KIND,
    volumeattachment.KIND,
    volumeattributesclass.KIND,
    storageversionmigration.KIND,
)
