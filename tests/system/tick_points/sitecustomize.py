"""Loaded by the Python of a worker under test: breaks a supervisor at a chosen point of a tick.

The file `arm` in the current folder names the point, and how: the first supervisor that comes to
this point takes it.
"""

import os
import signal

from streamq.broker.schedules import ScheduleStore
from streamq.transport.connection import Connection
from streamq.worker.services.scheduler import Scheduler

tick, note = ScheduleStore.tick, Scheduler.note
send, read = Connection.send, Connection.read
inside = []


def point(name, link=None):
    try:
        with open("arm") as file:
            wanted, how = file.read().split()
        if wanted == name:
            os.rename("arm", "struck")
    except FileNotFoundError:
        return
    if wanted != name:
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif link is not None:
        link.socket.shutdown(2)


def tick_with_points(store, *args, **kwargs):
    point("before")
    inside.append(True)
    try:
        return tick(store, *args, **kwargs)
    finally:
        inside.clear()


def send_with_points(link, commands):
    send(link, commands)
    if inside:
        point("sent", link)


def read_with_points(link, *args, **kwargs):
    reply = read(link, *args, **kwargs)
    if inside:
        point("answered", link)
    return reply


def note_with_points(*args):
    note(*args)
    point("noted")


ScheduleStore.tick = tick_with_points
Connection.send, Connection.read = send_with_points, read_with_points
Scheduler.note = note_with_points
