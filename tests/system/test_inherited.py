"""What a task starts: it gets the world as the worker got it, and nothing of its runner's."""

import fcntl
import os
import signal
import time

import pytest

TASKS = """
import json, multiprocessing, subprocess, threading

LOOK = '''
import json, os, re
text = open("/proc/self/status").read()
sets = {}
for name in ("SigBlk", "SigIgn", "SigCgt"):
    bits = int(re.search(name + r":\\\\s+(\\\\w+)", text)[1], 16)
    # The C library's own two are left out.
    sets[name] = [n for n in range(1, 65) if bits >> n - 1 & 1 and n not in (32, 33)]
sets["open"] = []
for number in os.listdir("/proc/self/fd"):
    try:
        sets["open"].append(os.readlink("/proc/self/fd/" + number))
    except OSError:
        pass
'''

def look(pipe):
    found = {}
    exec(LOOK, found)
    os.write(pipe, json.dumps(found["sets"]).encode())

def heard(pipe):
    with os.fdopen(pipe) as file:
        return json.loads(file.read())

@app.task
def by_fork():
    pipe, end = os.pipe()
    child = os.fork()
    if child == 0:
        look(end)
        os._exit(0)
    os.close(end)
    time.sleep(0.01)  # gevent closes it only in its loop
    found = heard(pipe)
    os.waitpid(child, 0)
    return found

@app.task
def by_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(by_fork()))
    thread.start()
    thread.join()
    return found[0]

@app.task
def by_preexec():
    pipe, end = os.pipe()
    process = subprocess.Popen(["true"], preexec_fn=lambda: look(end))
    os.close(end)
    process.wait()
    return heard(pipe)

@app.task
def by_exec():
    program = LOOK + "print(json.dumps(sets))"
    run = subprocess.run([sys.executable, "-c", program], stdout=-1, close_fds=False)
    return json.loads(run.stdout)

@app.task
def by_posix_spawn():
    program = LOOK + "open('spawned', 'w').write(json.dumps(sets))"
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", program], os.environ)
    os.waitpid(child, 0)
    return json.loads(open("spawned").read())

def wait_for_ever():
    signal.pause()

@app.task
def terminate(method):
    process = multiprocessing.get_context(method).Process(target=wait_for_ever)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode

@app.task
def stop_a_child(number):
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def square(number):
    return number * number

@app.task
def leave_in_a_child(how):
    pipe, end = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stdout = os.fdopen(end, "w")
        print("said")
        if how == "raise":
            raise ValueError("in a child")
        if how != "return":
            sys.exit(how)
        return "from a child"
    os.close(end)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(pipe) as file:
        return [code, file.read()]

@app.task
def in_a_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(4))

@app.task
def handler_of_its_own():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    return stop_a_child(signal.SIGTERM)

@app.task
def away_with_a_child():
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    note(f"child {child}")
    while os.getsid(child) != child:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

@app.task
def nap(seconds):
    time.sleep(seconds)
    note(f"nap {os.getpid()}")
    return os.getpid()

@app.task
def child_that_lives(seconds):
    child = os.fork()
    if child == 0:
        note("child")
        time.sleep(seconds)
        os._exit(0)
    os.waitpid(child, 0)

@app.task
def plain(number):
    return number
"""

POOLS = {
    "prefork": ("-c", 1),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 10),
}

#: Python ignores these itself, unless it starts a program.
PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}


@pytest.fixture(params=POOLS)
def flags(request, site):
    site.write(TASKS)
    return POOLS[request.param]


def is_free(folder):
    """Whether nobody has this folder locked."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def connections(site):
    """How many connections the server has accepted."""
    return site.redis.info("stats")["total_connections_received"]


def is_calm(site):
    """Check that the idle runners do not connect again and again."""
    before = connections(site)
    time.sleep(0.3)
    assert connections(site) - before <= 2
    assert site.send("plain", 1).get(timeout=10) == 1


def test_what_a_task_starts_can_be_ended(site, flags):
    site.worker(*flags)

    for method in ("fork", "spawn", "forkserver"):
        assert site.send("terminate", method).get(timeout=15) == -signal.SIGTERM
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGRTMIN + 1):
        assert site.send("stop_a_child", number).get(timeout=10) == -number

    is_calm(site)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_task_has_a_pool_of_processes(site, method):
    """Under gevent's patch such a pool hangs in any program."""
    site.write(TASKS)
    site.worker("-c", 1)

    assert site.send("in_a_pool", method).get(timeout=15) == [0, 1, 4, 9]

    is_calm(site)


def test_a_handler_that_the_task_has_set_is_its_childs_too(site):
    site.write(TASKS)
    site.worker("-c", 1)

    assert site.send("handler_of_its_own").get(timeout=10) == 7


def test_a_child_that_leaves_the_task_ends_and_returns_nothing(site, flags):
    """By sys.exit it ends as a program would; otherwise in a way that shows that it is astray."""
    site.worker(*flags)

    ways = {0: [0, "said\n"], 5: [5, "said\n"], "why": [1, "said\n"], None: [0, "said\n"]}
    for how, found in [*ways.items(), ("return", [99, ""]), ("raise", [99, ""])]:
        assert site.send("leave_in_a_child", how).get(timeout=10) == found


def odd_start():
    """Start as after nohup, in the background of a script, or below who blocks signals."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM])


def test_signals_are_as_the_worker_got_them(site, flags):
    worker = site.worker(*flags, preexec_fn=odd_start)

    for way in ("by_fork", "by_a_thread", "by_preexec", "by_exec", "by_posix_spawn"):
        found = site.send(way).get(timeout=15)
        ignored = {signal.SIGHUP, signal.SIGINT, signal.SIGUSR1}
        assert set(found["SigIgn"]) - PYTHONS_OWN == ignored, way
        assert found["SigBlk"] == [signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM], way
    assert worker.stop() == 0, "its own SIGTERM is heard"


def test_without_a_word_signals_are_as_in_any_process(site, flags):
    site.worker(*flags)

    for way in ("by_fork", "by_preexec", "by_exec"):
        found = site.send(way).get(timeout=15)
        assert set(found["SigIgn"]) <= PYTHONS_OWN, way
        assert found["SigBlk"] == [], way
        # Python's own handler of SIGINT, and the loop's of SIGCHLD.
        assert set(found["SigCgt"]) <= {signal.SIGINT, signal.SIGCHLD}, way


def test_signals_are_given_on_after_a_reload(site):
    site.write(TASKS)
    worker = site.worker("-c", 1, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    (before,) = worker.runners()
    worker.signal(signal.SIGHUP)
    site.until(lambda: worker.runners() not in ([], [before]), "it has begun anew")

    for way in ("by_fork", "by_exec"):
        found = site.send(way).get(timeout=15)
        assert set(found["SigIgn"]) - PYTHONS_OWN == {signal.SIGINT}, way
        assert found["SigBlk"] == [], way


def test_a_child_has_no_socket_and_no_pipe_of_ours(site, flags):
    site.worker(*flags)

    for way in ("by_fork", "by_preexec", "by_exec"):
        found = site.send(way).get(timeout=15)
        assert not [name for name in found["open"] if name.startswith("socket:")], way
        pipes = {name for name in found["open"] if name.startswith("pipe:")}
        # The one that the task has made; and subprocess, that which tells of failures.
        assert len(pipes) <= {"by_fork": 1, "by_preexec": 2, "by_exec": 1}[way], way


def test_what_outlives_its_runner_keeps_no_connection_open_and_no_folder_locked(site):
    site.write(TASKS)
    (site.folder / "tmp").mkdir()
    site.env["TMPDIR"] = str(site.folder / "tmp")
    worker = site.worker("-c", 1)
    (folder,) = (site.folder / "tmp").glob("streamq-worker-*")
    (runner,) = worker.runners()
    mine = next(client["id"] for client in site.redis.client_list() if "runner" in client["name"])

    site.send("away_with_a_child", max_deliveries=1)
    child = int(site.until(site.notes)[0].split()[1])
    try:
        site.until(
            lambda: mine not in [client["id"] for client in site.redis.client_list()],
            "the server knows that the runner has gone",
        )
        assert site.alive(child)
        site.until(lambda: not site.alive(runner), "it was killed")
        worker.signal(signal.SIGKILL)
        worker.wait()
        site.until(lambda: is_free(folder), "nobody has its folder locked")
        assert site.alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_in_the_child_of_a_greenlet_no_other_task_goes_on(site):
    site.write(TASKS)
    (runner,) = site.worker(*POOLS["gevent"]).runners()
    naps = [site.send("nap", 0.3) for _ in range(4)]
    child = site.send("child_that_lives", 0.8)
    site.until(lambda: "child" in site.notes(), "it has forked")

    results = [site.send("plain", number) for number in range(50)]

    assert [each.get(timeout=10) for each in results] == list(range(50))
    assert [each.get(timeout=10) for each in naps] == [runner] * 4
    child.get(timeout=10)
    assert site.notes().count(f"nap {runner}") == 4
    assert len(site.notes()) == 5
    site.at_rest()
