"""The diagnosis: every check of the doctor, applied to the facts about a Redis.

A check yields findings: ok, a warning or a problem, with advice.  Checks ask neither Redis nor a
clock; ``gather.py`` gathers the facts.
"""

from collections.abc import Callable, Iterator, Sequence

from streamq.admin.doctor.contents import (
    check_backlog,
    check_clients,
    check_deleted_pending,
    check_foreign,
    check_ids,
    check_leaks,
    check_orphans,
    check_readers,
    check_schedules,
)
from streamq.admin.doctor.facts import Facts, Finding, Level
from streamq.admin.doctor.server import (
    check_clock,
    check_cluster,
    check_eviction,
    check_limits,
    check_memory,
    check_password,
    check_persistence,
    check_replication,
    check_rights,
    check_server,
)

Check = Callable[[Facts], Iterator[Finding]]

#: Checks that need the reply of INFO.
SERVER_CHECKS: Sequence[Check] = (
    check_persistence,
    check_eviction,
    check_memory,
    check_replication,
    check_cluster,
    check_limits,
)
CLIENT_CHECKS: Sequence[Check] = (check_clock, check_rights, check_password, check_clients)
CONTENT_CHECKS: Sequence[Check] = (
    check_orphans,
    check_readers,
    check_ids,
    check_backlog,
    check_schedules,
    check_leaks,
    check_deleted_pending,
)


def diagnose(facts: Facts) -> list[Finding]:
    """Run every check; contents that cannot be read are one finding.  Returns all findings."""
    checks = [check_server, *(SERVER_CHECKS if facts.info else ()), *CLIENT_CHECKS]
    checks += [check_foreign] if facts.foreign else []
    checks += [check_readable] if facts.unreadable else CONTENT_CHECKS
    return [finding for check in checks for finding in check(facts)]


def check_readable(facts: Facts) -> Iterator[Finding]:
    if facts.foreign:
        yield Finding("contents", "warning", "not looked at, because of what is not streamq's")
        return
    advice = "look with the monitor's user: streamq acl monitor"
    yield Finding("contents", "warning", f"not to be read: {facts.unreadable}", advice)


def worst(findings: Sequence[Finding]) -> Level:
    """The most serious level among the findings."""
    levels = {finding.level for finding in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"
