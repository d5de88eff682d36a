"""The account that a worker changes to, where root starts it."""

import os
import pwd

import pytest

from streamq.errors import ConfigError
from streamq.worker.account import change_account

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its account")


def account_after(*changes):
    """The account of a process after these changes; or what the last of them says."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "died"
        try:
            for user, group in changes:
                change_account(user, group)
            said = f"{os.getresuid()} {os.getresgid()} {os.getgroups()}"
        except ConfigError as error:
            said = str(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as pipe:
        return pipe.read()


@as_root
@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_root_becomes_a_user_for_good_with_the_groups_of_that_user(user):
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid

    told = account_after((user, None), (user, None))  # the second: a worker that was reloaded

    assert told.startswith(f"{(uid, uid, uid)} {(gid, gid, gid)} ")
    assert "[0" not in told.rpartition(") ")[2]


@as_root
def test_a_group_may_be_chosen(tmp_path):
    assert account_after(("nobody", "12345")).split(") ")[1] == "(12345, 12345, 12345"


@as_root
def test_who_is_not_root_is_told_what_to_do():
    told = account_after(("nobody", None), ("root", None))

    assert told.startswith("only root may start a worker for another account: --uid root")
    assert "User=USER" in told


@pytest.mark.parametrize(
    ("user", "group", "says"),
    [("no-such-user", None, "no user is named"), (None, "no-such-group", "no group is named")],
)
def test_an_account_that_does_not_exist_is_named(user, group, says):
    with pytest.raises(ConfigError, match=says):
        change_account(user, group)
