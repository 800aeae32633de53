"""The audit log: who asked for what, as what, and what came of it (audit.k8s.io/v1).

It watches; it decides and changes nothing. `policy` says what is written, `events` words it, `log`
keeps it, `recorder` puts them around requests. Imported only where there is a policy file.
"""

from __future__ import annotations

from .recorder import Audit

__all__ = ["Audit"]
