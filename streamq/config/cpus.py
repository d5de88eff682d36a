"""CPUs that this process may use: those of its container, not of the host."""

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def usable_cpus() -> int:
    """Return the CPUs this process may run on, or fewer if its control groups grant less."""
    everywhere = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere
    quota = cpu_quota(Path("/"))
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path) -> float | None:
    """Return the CPUs that the control groups allow; None if they set no limit.

    The lowest limit of the process's own group and of all groups above it counts.
    """
    quotas = (quota_of(folder) for folder in groups(root))
    return min((quota for quota in quotas if quota), default=None)


def groups(root: Path) -> Iterator[Path]:
    """The folders of the groups that may limit this process, in both versions of cgroup."""
    mounts = root / "sys/fs/cgroup"
    for line in read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:  # version 2 has one hierarchy for all controllers
            yield from upwards(mounts, group)
        elif "cpu" in controllers.split(","):
            yield from upwards(mounts / "cpu", group)  # a link where "cpu,cpuacct" is mounted


def upwards(mount: Path, group: str) -> Iterator[Path]:
    """The group's folder and those above, down to the mount, which may be the group itself."""
    inner = Path(group.strip("/"))
    for part in (inner, *inner.parents):
        if ".." not in part.parts:  # outside of what this container sees
            yield mount / part


def quota_of(folder: Path) -> float | None:
    """CPUs granted to one group: "QUOTA PERIOD" in version 2, two files in version 1."""
    version_2 = read(folder / "cpu.max")
    version_1 = f"{read(folder / 'cpu.cfs_quota_us')} {read(folder / 'cpu.cfs_period_us')}"
    match (version_2 or version_1).split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
        case _:  # "max", -1, or no such controller
            return None


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no control groups here, or none that we may see
        return ""
