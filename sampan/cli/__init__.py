"""The commands a person types, one file per command.

No cluster logic lives here: a command reads files, calls the API or starts a process.
"""
