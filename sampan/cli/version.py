"""`sampan version`."""

from __future__ import annotations

import json
import platform

from sampan.version import GIT_VERSION, VERSION

from .options import Json


def version(json_output: Json = False) -> None:
    """Show the versions of Sampan, of the Kubernetes API it serves, and of Python."""
    if json_output:
        facts = {"sampan": VERSION, "kubernetes": GIT_VERSION, "python": platform.python_version()}
        print(json.dumps(facts))
    else:
        print(f"sampan {VERSION}, Kubernetes {GIT_VERSION}, Python {platform.python_version()}")
