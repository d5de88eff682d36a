"""The account of a worker that root has started: another user, for good."""

import grp
import os
import pwd

from streamq.errors import ConfigError


def change_account(user: str | None, group: str | None) -> None:
    """Become this user and this group; each is a name or a number, and may be None.

    Without a group, it is the user's own.  A worker that is started again as that user already
    changes nothing.  Raises ConfigError if there is no such user or group, or this is not root.
    """
    uid = None if user is None else uid_of(user)
    gid = gid_of(group) if group is not None else None if uid is None else own_group(uid)
    if uid in (None, os.geteuid()) and gid in (None, os.getegid()):
        return
    if os.geteuid() != 0:
        given = " ".join(
            f"{flag} {value}" for flag, value in (("--uid", user), ("--gid", group)) if value
        )
        raise ConfigError(
            f"only root may start a worker for another account: {given}",
            known={"this is": f"user {os.geteuid()}, group {os.getegid()}"},
            advice=[
                "start it as that user: sudo -u USER streamq worker …",
                "or in its systemd unit: User=USER, and no --uid",
            ],
        )
    if gid is not None:
        os.setgid(gid)
        if uid is None:
            os.setgroups([gid])
    if uid is not None:
        name = name_of(uid)
        if name is None:
            os.setgroups([] if gid is None else [gid])
        else:
            os.initgroups(name, os.getgid() if gid is None else gid)
        os.setuid(uid)


def uid_of(user: str) -> int:
    """The number of a user.  Raises ConfigError if there is none of that name."""
    if user.isascii() and user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigError(f"no user is named {user!r}", known={"given by": "--uid"}) from None


def gid_of(group: str) -> int:
    """The number of a group.  Raises ConfigError if there is none of that name."""
    if group.isascii() and group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"no group is named {group!r}", known={"given by": "--gid"}) from None


def own_group(uid: int) -> int | None:
    """The number of a user's own group; None if the system does not know the user."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


def name_of(uid: int) -> str | None:
    """The name of a user; None if the system does not know the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
