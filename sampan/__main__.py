"""Dispatch only: the processes of a cluster go to `daemon`, everything a person types to `cli`.

The parts are named before anything else is imported, so that starting one loads only its own code.
"""

from __future__ import annotations

import sys


def main() -> int:
    part, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if part == "supervise":
        from sampan.daemon.supervise import main as run
    elif part == "control":
        from sampan.daemon.control import main as run
    elif part == "node-process":
        from sampan.daemon.node import main as run
    elif part == "cleanup":
        from sampan.daemon.cleanup import main as run
    else:
        from sampan.cli.main import main as command

        return command()
    return run(rest)


if __name__ == "__main__":
    sys.exit(main())
