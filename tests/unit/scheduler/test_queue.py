"""The order of pods, and when they may be tried again."""

from __future__ import annotations

from sampan.scheduler.queue import Queue


def test_priority_then_age() -> None:
    queue = Queue()
    queue.add("old", 0, 1.0)
    queue.add("young", 0, 2.0)
    queue.add("important", 100, 3.0)
    assert [queue.pop(4.0) for _ in range(4)] == ["important", "old", "young", None]


def test_a_parked_pod_waits_for_a_change_and_its_back_off() -> None:
    queue = Queue()
    queue.add("a", 0, 0.0)
    assert queue.pop(0.0) == "a"
    queue.park("a", 0.0)
    assert queue.pop(100.0) is None
    queue.wake(0.5)
    # Nobody else is ready: the back-off need not be waited out.
    queue.add("b", 0, 0.5)
    assert (queue.pop(0.5), queue.pop(0.5), queue.pop(0.5)) == ("b", "a", None)
    assert queue.incoming["active", "PopFromBackoffQ"] == 1
    queue.park("a", 0.5)
    queue.wake(50.0)
    assert queue.pop(50.0) == "a"


def test_a_change_during_the_attempt_is_not_missed() -> None:
    queue = Queue()
    queue.add("a", 0, 0.0)
    queue.pop(0.0)
    queue.wake(0.0)
    queue.park("a", 0.0)
    assert queue.pop(1.0) == "a"


def test_back_off_doubles_to_its_cap() -> None:
    queue = Queue()
    queue.add("a", 0, 0.0)
    now, delays = 0.0, []
    for _ in range(6):
        assert queue.pop(now) == "a"
        queue.retry("a", now)
        due = queue.next_due_s()
        assert due is not None
        delays.append(due - now)
        now = due
    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_removed_pod_never_comes_back() -> None:
    queue = Queue()
    queue.add("a", 0, 0.0)
    queue.remove("a")
    assert queue.pop(0.0) is None
    queue.park("a", 0.0)
    queue.wake(9.0)
    assert len(queue) == 0
    assert queue.pop(9.0) is None


def test_only_those_are_woken_whom_it_helps() -> None:
    queue = Queue()
    for uid in ("a", "b"):
        queue.add(uid, 0, 0.0)
        queue.pop(0.0)
        queue.park(uid, 0.0, group=uid)
    assert queue.wake(20.0, lambda group: group == "b")
    assert (queue.pop(20.0), queue.pop(20.0)) == ("b", None)
    assert not queue.wake(20.0, lambda group: group == "c")
    assert queue.sizes == {"active": 1, "backoff": 0, "unschedulable": 1}


def test_a_group_is_asked_once() -> None:
    queue = Queue()
    for number in range(5):
        queue.add(str(number), 0, 0.0)
        uid = queue.pop(0.0)
        assert uid is not None
        queue.park(uid, 0.0, group="all")
    asked: list[str] = []
    queue.wake(1.0, lambda group: bool(asked.append(group)))
    assert asked == ["all"]


def test_who_has_waited_five_minutes_is_tried_whatever_happened() -> None:
    queue = Queue()
    queue.add("a", 0, 0.0)
    queue.pop(0.0)
    queue.park("a", 0.0)
    assert queue.next_due_s() == 300.0
    assert queue.pop(299.0) is None
    assert queue.pop(300.0) == "a"


def test_one_of_a_group_is_tried_early_and_the_others_wait_if_it_fails() -> None:
    queue = Queue()
    for uid in "abc":
        queue.add(uid, 0, 0.0)
        queue.pop(0.0)
        queue.park(uid, 0.0, group="all")
    queue.wake(0.2, lambda group: True, "NodeAdd")
    assert queue.pop(0.2) == "a"
    queue.remove("a")
    assert queue.pop(0.2) == "b", "the first was helped"
    queue.park("b", 0.2, group="all")
    assert queue.pop(0.2) is None, "the second was not, and the third is like it"
    assert queue.next_due_s() == 1.0
    queue.wake(0.3, lambda group: True, "NodeAdd")
    assert [queue.pop(0.3), queue.pop(0.3), queue.pop(0.3)] == ["c", "b", None]
    queue.park("c", 0.3, group="all")
    queue.retry("b", 0.3)
    queue.wake(0.4, lambda group: group == "other")
    assert queue.pop(0.4) is None, "errors are waited out, and others' changes help nobody"
    # Its third try failed at 0.3: what is left of its back-off is 4 s.
    assert (queue.pop(4.2), queue.pop(4.4)) == (None, "b")


def test_nothing_is_kept_of_those_who_went() -> None:
    queue = Queue()
    for number in range(50):
        queue.add("a", 0, float(number))
        queue.pop(float(number))
        queue.park("a", float(number), group=number)
        queue.wake(float(number))
        queue.remove("a")
    assert not queue.has_waiting
    assert queue.pop(99.0) is None
