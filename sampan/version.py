"""What this is, and which Kubernetes it speaks."""

from __future__ import annotations

VERSION = "0.1.0"
KUBERNETES_VERSION = "1.36.2"
GIT_VERSION = f"v{KUBERNETES_VERSION}+sampan"
"""As /version and the nodes say it; clients parse the part before the plus sign."""
