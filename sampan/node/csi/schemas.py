"""The messages of pluginregistration.v1 and csi.v1 that a node exchanges, as tables. Pure."""

from __future__ import annotations

from typing import Final

from sampan.wire.messages import BOOL, INT, MAP, TEXT, Schema

NOTHING: Final[Schema] = {}
REGISTRATION: Final = "/pluginregistration.Registration/"
IDENTITY: Final = "/csi.v1.Identity/"
NODE: Final = "/csi.v1.Node/"

ACCESS_MODE: Schema = {"mode": (1, INT)}
MOUNT_VOLUME: Schema = {
    "fs_type": (1, TEXT),
    "mount_flags": (2, [TEXT]),
    "volume_mount_group": (3, TEXT),
}
VOLUME_CAPABILITY: Schema = {
    "block": (1, NOTHING),
    "mount": (2, MOUNT_VOLUME),
    "access_mode": (3, ACCESS_MODE),
}
CAPACITY_RANGE: Schema = {"required_bytes": (1, INT), "limit_bytes": (2, INT)}
TOPOLOGY: Schema = {"segments": (1, MAP)}
CAPABILITY: Schema = {"rpc": (1, {"type": (1, INT)})}
USAGE: Schema = {"available": (1, INT), "total": (2, INT), "used": (3, INT), "unit": (4, INT)}

CALLS: Final[dict[str, tuple[str, Schema, Schema]]] = {
    "GetInfo": (
        REGISTRATION,
        NOTHING,
        {
            "type": (1, TEXT),
            "name": (2, TEXT),
            "endpoint": (3, TEXT),
            "supported_versions": (4, [TEXT]),
        },
    ),
    "NotifyRegistrationStatus": (
        REGISTRATION,
        {"plugin_registered": (1, BOOL), "error": (2, TEXT)},
        NOTHING,
    ),
    "GetPluginInfo": (IDENTITY, NOTHING, {"name": (1, TEXT), "vendor_version": (2, TEXT)}),
    "NodeGetInfo": (
        NODE,
        NOTHING,
        {
            "node_id": (1, TEXT),
            "max_volumes_per_node": (2, INT),
            "accessible_topology": (3, TOPOLOGY),
        },
    ),
    "NodeGetCapabilities": (NODE, NOTHING, {"capabilities": (1, [CAPABILITY])}),
    "NodeStageVolume": (
        NODE,
        {
            "volume_id": (1, TEXT),
            "publish_context": (2, MAP),
            "staging_target_path": (3, TEXT),
            "volume_capability": (4, VOLUME_CAPABILITY),
            "secrets": (5, MAP),
            "volume_context": (6, MAP),
        },
        NOTHING,
    ),
    "NodeUnstageVolume": (
        NODE,
        {"volume_id": (1, TEXT), "staging_target_path": (2, TEXT)},
        NOTHING,
    ),
    "NodePublishVolume": (
        NODE,
        {
            "volume_id": (1, TEXT),
            "publish_context": (2, MAP),
            "staging_target_path": (3, TEXT),
            "target_path": (4, TEXT),
            "volume_capability": (5, VOLUME_CAPABILITY),
            "readonly": (6, BOOL),
            "secrets": (7, MAP),
            "volume_context": (8, MAP),
        },
        NOTHING,
    ),
    "NodeUnpublishVolume": (NODE, {"volume_id": (1, TEXT), "target_path": (2, TEXT)}, NOTHING),
    "NodeGetVolumeStats": (
        NODE,
        {"volume_id": (1, TEXT), "volume_path": (2, TEXT), "staging_target_path": (3, TEXT)},
        {"usage": (1, [USAGE])},
    ),
    "NodeExpandVolume": (
        NODE,
        {
            "volume_id": (1, TEXT),
            "volume_path": (2, TEXT),
            "capacity_range": (3, CAPACITY_RANGE),
            "staging_target_path": (4, TEXT),
            "volume_capability": (5, VOLUME_CAPABILITY),
            "secrets": (6, MAP),
        },
        {"capacity_bytes": (1, INT)},
    ),
}
"""Call -> (service, request, answer)."""

# NodeServiceCapability.RPC.Type
STAGE_UNSTAGE, GET_STATS, EXPAND = 1, 2, 3
SINGLE_NODE_MULTI_WRITER, MOUNT_GROUP = 5, 6

MODES: Final = {
    "ReadWriteOnce": 1,
    "ReadOnlyMany": 3,
    "ReadWriteMany": 5,
    "ReadWriteOncePod": 1,
}
"""Access mode -> VolumeCapability.AccessMode.Mode, as drivers know it that tell writers of one node
not apart; `FINE_MODES` for those that do (KEP-2485)."""
FINE_MODES: Final = MODES | {"ReadWriteOnce": 7, "ReadWriteOncePod": 6}
