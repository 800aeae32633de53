"""The administrator's files: which there are, and how they are taken while the server runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .app import Server
    from .audit.webhook import AuditWebhook

AUDIT_POLICY = "audit-policy.yaml"
AUDIT_WEBHOOK = "audit-webhook.kubeconfig"


def load(server: Server) -> None:
    """Read all files anew, as they have changed. What is no good stays as it was, and the others
    are taken nevertheless; then raises ValueError for all that were not."""
    errors = []
    for part, read in (
        ("authentication", server.authn.load),
        ("authorization", server.authorizer.load),
        ("", partial(load_audit, server)),
    ):
        failed = False
        try:
            read()
        except (OSError, ValueError) as error:
            errors.append(str(error))
            failed = True
        if part and server.reloads is not None:
            server.reloads.note(part, failed=failed)
    if errors:
        raise ValueError("; ".join(errors))


def begin(server: Server) -> None:
    """Follow the files, if there is a folder for them: its changes are told by `load`."""
    folder = server.config.folder
    if folder is not None and folder.is_dir():
        from .reloads import Reloads

        server.reloads = Reloads(server, folder)
    load_audit(server)


def load_audit(server: Server) -> None:
    """Begin, change or end the audit log, by its policy. Raises ValueError and OSError. The file
    stays open when only the policy changes: what is under way is still written of."""
    folder, target = server.config.folder, server.config.audit_log
    before, made = server.audit, None
    if folder is not None and target is not None and (folder / AUDIT_POLICY).exists():
        # Imported only where there is a policy.
        from .audit import Audit
        from .audit.log import Log
        from .audit.policy import read

        policy = read(folder / AUDIT_POLICY)
        if policy is not None:
            log = Log(target) if before is None else before.log
            webhook = None if before is None else before.webhook
            made = Audit(server, policy, log, _audit_webhook(server, folder, webhook))
    server.audit = made
    if before is not None and made is None:
        before.close()


def _audit_webhook(
    server: Server, folder: Path, before: AuditWebhook | None
) -> AuditWebhook | None:
    """Who else gets the events. One that is replaced delivers what it has by itself."""
    path = folder / AUDIT_WEBHOOK
    if not path.exists():
        return None
    if before is not None and before.source == path.read_bytes():
        return before
    from .audit.webhook import AuditWebhook

    return AuditWebhook(server, path)
