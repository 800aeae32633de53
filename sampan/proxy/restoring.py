"""What a node says of its rules in the kernel: that somebody removed them, or they are refused."""

from __future__ import annotations

from sampan.client.events import WARNING, EventRecorder
from sampan.linux.nft import NftError


def say_restored(recorder: EventRecorder | None, node: str, reason: str, table: str) -> None:
    """`table`: with its family, if it is of one alone."""
    say_of(recorder, node, reason, f"nftables table {table} was removed by somebody else"
           " and made anew")  # fmt: skip


def say_refused(recorder: EventRecorder | None, node: str, reason: str, error: NftError) -> None:
    """What was in the kernel before is there still: a transaction is carried out whole or not."""
    say_of(recorder, node, reason, f"nftables refused new rules, the old ones stay: {error}")


def say_of(recorder: EventRecorder | None, node: str, reason: str, text: str) -> None:
    if recorder is not None:
        about = {"kind": "Node", "name": node, "uid": node, "apiVersion": "v1"}
        recorder.event(about, WARNING, reason, text)
