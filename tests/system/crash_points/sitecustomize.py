"""Loaded by the Python of a worker under test: breaks a runner at a chosen point.

The points are the moments before and after each packet that a runner sends, and after each
reply that it reads.  The file `arm` in the current folder says at which of them, and how:
the first runner that sees it takes it, and counts from there.
"""

import os
import signal

from streamq.transport import connection

NAME = "streamq:runner"


class Fuse:
    """Counts points once it is armed."""

    left = 0
    how = ""

    def point(self, link):
        if not link.name.startswith(NAME):
            return
        if not self.left:
            self.arm()
        elif self.left == 1:
            self.left = 0
            self.strike(link)
        else:
            self.left -= 1

    def arm(self):
        try:
            os.rename("arm", f"armed-{os.getpid()}")
        except FileNotFoundError:
            return
        with open(f"armed-{os.getpid()}") as file:
            number, self.how = file.read().split()
        self.left = int(number)

    def strike(self, link):
        with open("struck", "w") as file:
            file.write(self.how)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif link.socket is not None:
            link.socket.shutdown(2)


FUSE = Fuse()
send, read = connection.Connection.send, connection.Connection.read


def send_and_count(link, commands):
    FUSE.point(link)
    send(link, commands)
    FUSE.point(link)


def read_and_count(link, *args, **kwargs):
    reply = read(link, *args, **kwargs)
    FUSE.point(link)
    return reply


connection.Connection.send = send_and_count
connection.Connection.read = read_and_count
