"""One file per container verb: create, start, exec, kill, delete."""
