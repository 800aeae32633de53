"""The administrator's file of static tokens: CSV of token, user name, uid and groups.

As upstream's --token-auth-file: `token,user,uid,"group1,group2"`; uid and groups may be left out.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ..exchange import User

NAME = "tokens.csv"


def read_tokens(path: Path) -> dict[str, User]:
    """Users by token; none if there is no file. Raises ValueError for a line that is no good."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    found: dict[str, User] = {}
    for number, row in enumerate(rows, 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 2 or not row[0] or not row[1]:
            raise ValueError(f"{path}:{number}: a line is token,user,uid,groups")
        if row[0] in found:
            raise ValueError(f"{path}:{number}: this token has a user already")
        uid = row[2] if len(row) > 2 else ""
        groups = row[3].split(",") if len(row) > 3 else []
        found[row[0]] = User(row[1], tuple(item.strip() for item in groups if item.strip()), uid)
    return found
