"""CronJobs that do not run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, Finding, said


def suspended(facts: Facts) -> Iterator[Finding]:
    if facts.spec.get("suspend"):
        yield Finding(
            "cronjob/suspended",
            "It is suspended: its times pass by and nothing runs.",
            ["spec.suspend: true"],
            [f'kubectl patch {facts.title} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''],
        )


def unreadable(facts: Facts) -> Iterator[Finding]:
    found = facts.event("UnknownTimeZone", "UnparseableSchedule", "InvalidSchedule")
    if found is not None:
        yield Finding(
            "cronjob/schedule",
            "Its schedule cannot be read.",
            [said(found)],
            ["Correct spec.schedule or spec.timeZone (as in Europe/Berlin)."],
        )


def missed(facts: Facts) -> Iterator[Finding]:
    found = facts.event("MissSchedule", "TooManyMissedTimes")
    if found is None:
        return
    limit = facts.spec.get("startingDeadlineSeconds")
    yield Finding(
        "cronjob/missed",
        "It was too late to start a run, so that run was left out.",
        [said(found), f"spec.startingDeadlineSeconds: {limit}"],
        ["Raise startingDeadlineSeconds, if a late run is better than none."],
    )


def busy(facts: Facts) -> Iterator[Finding]:
    active = facts.status.get("active") or ()
    if facts.spec.get("concurrencyPolicy") == "Forbid" and facts.event("JobAlreadyActive"):
        names = [item.get("name") for item in active]
        yield Finding(
            "cronjob/still-active",
            "Its last run is still at work, and no other may begin before that has ended.",
            ["spec.concurrencyPolicy: Forbid", *(f"active: job {name}" for name in names)],
            [
                *(f"sampan why job/{name}" for name in names[:1]),
                "Give the Job activeDeadlineSeconds, or use concurrencyPolicy: Replace.",
            ],
        )


def last_run(facts: Facts) -> Iterator[Finding]:
    """How its newest Job ended."""
    if not facts.parts:
        return
    newest = max(facts.parts, key=lambda item: item.obj["metadata"].get("creationTimestamp") or "")
    failed = newest.condition("Failed")
    if failed.get("status") == "True":
        yield Finding(
            "cronjob/last-failed",
            f"Its last run, job {newest.name}, has failed.",
            [f"{failed.get('reason')}: {failed.get('message')}"],
            [f"sampan why job/{newest.name} -n {newest.obj['metadata']['namespace']}"],
        )


def times(facts: Facts) -> Iterator[Finding]:
    spec, status = facts.spec, facts.status
    zone = f" ({spec['timeZone']})" if spec.get("timeZone") else ""
    last = status.get("lastScheduleTime")
    text = f"It ran last at {last}." if last else "It has not run yet."
    evidence = [f"spec.schedule: {spec.get('schedule')}{zone}"]
    if status.get("lastSuccessfulTime"):
        evidence.append(f"lastSuccessfulTime: {status['lastSuccessfulTime']}")
    yield Finding("cronjob/waiting", text, evidence, broken=False)
