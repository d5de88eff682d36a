"""What facts about a Redis mean for streamq: fine, a warning or a problem, and what to do.

Knows no Redis and no clock: facts are gathered elsewhere (``store/checkup.py``).
"""

from collections.abc import Callable, Iterator, Sequence

from streamq.admin.doctor.contents import (
    check_backlog,
    check_clients,
    check_foreign,
    check_ghosts,
    check_ids,
    check_leaks,
    check_orphans,
    check_readers,
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

#: What INFO tells of.
OF_THE_SERVER: Sequence[Check] = (
    check_persistence,
    check_eviction,
    check_memory,
    check_replication,
    check_cluster,
    check_limits,
)
OF_US: Sequence[Check] = (check_clock, check_rights, check_password, check_clients)
OF_THE_CONTENTS: Sequence[Check] = (
    check_orphans,
    check_readers,
    check_ids,
    check_backlog,
    check_leaks,
    check_ghosts,
)


def diagnose(facts: Facts) -> list[Finding]:
    """Every check's findings; what could not be looked at is said once."""
    checks = [check_server, *(OF_THE_SERVER if facts.info else ()), *OF_US]
    checks += [check_foreign] if facts.foreign else []
    checks += [check_readable] if facts.unreadable else OF_THE_CONTENTS
    return [finding for check in checks for finding in check(facts)]


def check_readable(facts: Facts) -> Iterator[Finding]:
    if facts.foreign:
        yield Finding("contents", "warning", "not looked at, because of what is not streamq's")
        return
    advice = "look with the monitor's user: streamq acl monitor"
    yield Finding("contents", "warning", f"not to be read: {facts.unreadable}", advice)


def worst(findings: Sequence[Finding]) -> Level:
    """The most serious level there is."""
    levels = {finding.level for finding in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"
