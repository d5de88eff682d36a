"""What waits behind a task that lets nothing else run in its process."""

import time
from collections import Counter

import pytest

#: How a task may keep a process busy: in C code that lets other threads run, in Python, and in C
#: code that keeps the interpreter's lock.
BLOCKERS = ["call", "loop", "hold"]
POOLS = {
    "prefork": ("-c", 1),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "-c", 60),
}

TASKS = """
import ctypes

def wait(how, seconds):
    if how == "call":
        ctypes.CDLL(None).usleep(int(seconds * 1e6))
    elif how == "hold":
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    else:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(1000))

@app.task
def block(how):
    note(f"block begins {os.getpid()}")
    if how == "hold":
        wait(how, 3.5)
    until = time.monotonic() + 30
    while how != "hold" and not (HERE / "go").exists() and time.monotonic() < until:
        wait(how, 0.01)
    note("block ends")

@app.task
def pause(number, how, seconds):
    note(f"pause {number} {os.getpid()}")
    wait(how, seconds)
    return number

@app.task
def nap(number):
    quick(number)
    time.sleep(0.15)
    return number

@app.task
def quick(number):
    note(f"quick {number} {os.getpid()}")
    return number
"""


def quick_of(site):
    """The number and the process of each quick task that ran."""
    notes = [line.split() for line in site.notes() if line.startswith("quick")]
    return [(int(number), int(pid)) for _, number, pid in notes]


@pytest.mark.parametrize(
    ("how", "acks_late"),
    [("call", True), ("loop", True), ("hold", True), ("call", False), ("loop", False)],
    ids=["call-late", "loop-late", "hold-late", "call-early", "loop-early"],
)
def test_what_was_read_with_it_runs_elsewhere(site, how, acks_late):
    """What was acknowledged before it runs, too; not where the interpreter's lock is held."""
    site.write(TASKS)
    site.app.declare([])
    signature = site.app.signature
    calls = [signature("tasks.quick", (n,), acks_late=acks_late) for n in range(40)]
    calls.insert(0, signature("tasks.block", (how,), acks_late=acks_late))
    results = site.app.enqueue_many(calls)
    site.worker("-P", "gevent", "-c", 50)
    site.until(lambda: site.notes(), "it blocks")

    other = site.worker("-P", "gevent", "-c", 50, "-n", "other")
    assert [each.get(timeout=20) for each in results[1:]] == list(range(40))

    assert "block ends" not in site.notes()
    assert Counter(quick_of(site)) == Counter((n, other.runners()[0]) for n in range(40))
    (site.folder / "go").touch()
    results[0].get(timeout=20)
    site.at_rest()


@pytest.mark.parametrize(
    ("how", "countdown"), [("call", 0), ("loop", 0.01), ("hold", 0)], ids=BLOCKERS
)
def test_what_comes_while_it_blocks_runs_elsewhere(site, how, countdown):
    """Also what the answer brings that the blocked process has asked for before."""
    site.write(TASKS)
    site.worker("-P", "gevent", "-c", 50)
    site.worker("-P", "gevent", "-c", 50, "-n", "other")
    blocked = site.send("block", how)
    site.until(lambda: site.notes(), "it blocks")

    waits = []
    for number in range(10):
        sent = time.monotonic()
        site.send("quick", number, countdown=countdown).get(timeout=20)
        waits.append(time.monotonic() - sent)

    assert "block ends" not in site.notes()
    assert sorted(n for n, _ in quick_of(site)) == list(range(10))
    assert len({pid for _, pid in quick_of(site)}) == 1
    assert max(waits) < 2.5, waits
    (site.folder / "go").touch()
    blocked.get(timeout=20)
    site.at_rest()


def behind_a_pause(site, pool, how, seconds, **options):
    """Tasks behind one that keeps its process busy, once that has begun; some are in hand."""
    site.write(TASKS)
    site.worker(*POOLS[pool])
    signature = site.app.signature
    calls = [signature("tasks.quick", (n,)) for n in range(300)]
    calls.append(signature("tasks.pause", (0, how, seconds)))
    calls += [signature("tasks.quick", (n,), **options) for n in range(1000, 1040)]
    results = site.app.enqueue_many(calls)
    site.until(lambda: any(line.startswith("pause") for line in site.notes()), "it blocks")
    return results[301:]


def none_ran(site, results):
    site.drained()
    assert [number for number, _ in quick_of(site) if number >= 1000] == []
    assert Counter(site.states(results)) == {("REVOKED", None): 40}
    site.at_rest()


@pytest.mark.parametrize("how", ["call", "hold"])
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_what_is_revoked_meanwhile_does_not_run(site, pool, how):
    results = behind_a_pause(site, pool, how, 0.8)
    for result in results:
        result.revoke()
    none_ran(site, results)


@pytest.mark.parametrize("how", ["loop", "hold"])
@pytest.mark.parametrize("pool", ["solo", "gevent"])
def test_what_expires_meanwhile_does_not_run(site, pool, how):
    none_ran(site, behind_a_pause(site, pool, how, 0.8, expires=0.5))


@pytest.mark.parametrize("how", ["loop", "hold"])
def test_where_nobody_else_is_what_went_back_runs_once_and_moves_little(site, how):
    """Each of these keeps its process busy for longer than others are kept waiting."""
    site.write(TASKS)
    site.app.declare([])
    signature = site.app.signature
    results = site.app.enqueue_many(signature("tasks.pause", (n, how, 0.07)) for n in range(20))

    site.worker("-P", "gevent", "-c", 50)

    assert [each.get(timeout=20) for each in results] == list(range(20))
    # without learning it would be 190
    moves = site.redis.xinfo_stream("{streamq}:queue:default:returned")["entries-added"]
    assert moves <= 3 * 20, moves
    assert Counter(line.split()[1] for line in site.notes()) == Counter(map(str, range(20)))
    site.at_rest()


def test_a_burst_of_two_processes_goes_on_in_the_other(site):
    site.write(TASKS)
    site.app.declare([])
    signature = site.app.signature
    calls = [signature("tasks.nap", (n,)) for n in range(60)]
    calls.insert(0, signature("tasks.block", ("call",)))
    results = site.app.enqueue_many(calls)
    worker = site.worker("-P", "gevent", "--processes", 2, "-c", 20, "--burst", ready=False)

    block = results.pop(0)
    assert [each.get(timeout=20) for each in results] == list(range(60))
    assert "block ends" not in site.notes()
    (site.folder / "go").touch()
    assert worker.wait(20) == 0
    assert block.state == "SUCCESS"
    assert Counter(n for n, _ in quick_of(site)) == Counter(range(60))
    site.at_rest()


def races(site, how, count):
    """Tasks that end about when others look behind them; the others behind each of them."""
    site.write(TASKS)
    site.app.declare([])
    signature = site.app.signature
    calls = []
    for number in range(count):
        seconds = 0.045 + number % 10 * 0.004
        calls.append(signature("tasks.pause", (number, how, seconds)))
        calls += [signature("tasks.quick", (number * 6 + n,)) for n in range(6)]
    results = site.app.enqueue_many(calls)

    worker = site.worker("-P", "gevent", "--processes", 2, "-c", 14)
    site.drained()

    assert Counter(site.states(results)) == {("SUCCESS", None): 7 * count}
    begun = Counter(tuple(line.split()[:2]) for line in site.notes())
    assert len(begun) == 7 * count
    assert set(begun.values()) == {1}
    assert "taken back while it ran" not in worker.said
    site.at_rest()


def test_what_starts_just_when_it_would_go_back_starts_once(site):
    """Some seconds: 30 races between a start and a hand-back; ten times as many at night."""
    races(site, "call", 30)
