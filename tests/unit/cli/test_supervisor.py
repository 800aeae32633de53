"""Following a supervisor: whole lines, its end, and the end of patience."""

from __future__ import annotations

import json
import socket
import warnings
from collections import deque

import pytest

with warnings.catch_warnings():
    # typer is of before click's newest.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

from sampan.cli.supervisor import failure, is_ready, status_of, statuses, url_of


def line(**states: str) -> bytes:
    parts = {name: {"state": state, "error": "why"} for name, state in states.items()}
    return json.dumps({"parts": parts}).encode() + b"\n"


def test_lines_come_whole_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        data = line(control="starting") + line(control="ready")
        for at in range(0, len(data), 7):
            theirs.sendall(data[at : at + 7])
        theirs.shutdown(socket.SHUT_WR)
        seen = list(statuses(ours, 5))
    assert [is_ready(status) for status in seen] == [False, True]


def test_patience_ends_even_while_there_is_news() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(line(control="restarting"))
        news = (theirs.send(line(control="restarting")) for _ in statuses(ours, 0.05))
        with pytest.raises(TimeoutError):
            deque(news, maxlen=0)


def test_what_cannot_start_says_why() -> None:
    status = json.loads(line(control="failed", node="starting"))
    assert failure(status) == "why"
    assert failure(json.loads(line(control="starting"))) == ""


def test_a_supervisor_that_ends_with_our_words_unread_has_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"down\n")
        theirs.close()
        assert list(statuses(ours, 5)) == []


def test_one_that_hangs_up_at_once_is_told_of_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(typer.Exit):
        status_of(ours)
    assert "too many" in capsys.readouterr().err


def test_a_machine_that_joined_has_no_server_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        url_of(json.loads(line(node="ready")))
    assert "elsewhere" in capsys.readouterr().err
    assert url_of(json.loads(line(control="starting"))) == ""
