"""Who is asking: client certificates, static tokens, service-account tokens, impersonation.

It identifies; what the user may do is `authz`'s business.
"""

from __future__ import annotations

from .authenticator import Authenticator
from .impersonation import impersonate

__all__ = ["Authenticator", "impersonate"]
