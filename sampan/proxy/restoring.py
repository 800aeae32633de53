"""What a node says when somebody else removed its rules and they were made anew."""

from __future__ import annotations

from sampan.client.events import WARNING, EventRecorder


def say_restored(recorder: EventRecorder | None, node: str, reason: str, table: str) -> None:
    """`table`: with its family, if it is of one alone."""
    if recorder is not None:
        about = {"kind": "Node", "name": node, "uid": node, "apiVersion": "v1"}
        text = f"nftables table {table} was removed by somebody else and made anew"
        recorder.event(about, WARNING, reason, text)
