"""Guards against what may happen to workers: part A of the fault matrix."""

from tests.guards.guard import guard

CRASHES = "tests/system/test_crashes.py::"
CRASH_BLAME = "tests/system/test_crash_blame.py::"
HUB_WATCHDOG = "tests/unit/test_hub_watchdog.py::"
HOSTS = "tests/system/test_hosts.py::"
LIMITS = "tests/system/test_limits.py::"
ODD_TASKS = "tests/system/test_odd_tasks.py::"
WORKER_NAMES = "tests/integration/test_worker_names.py::"
SCARCITY = "tests/system/test_scarcity.py::"
SHUTDOWN = "tests/system/test_shutdown.py::"
SIGNALS = "tests/system/test_signals.py::"
HARD_LIMITS = "tests/unit/test_hard_limits.py::"
SERVICES = "tests/unit/test_services.py::"

GUARDS = [
    guard(
        "a result and its acknowledgement are one act",
        "A3",
        CRASH_BLAME + "test_a_runner_that_dies_after_it_has_settled_costs_no_second_run",
        "'innocent 0' != 'innocent 1'",
        (
            "scripts/lua/settle.lua",
            "      settled = redis.call('XACK', key, 'workers', entry)\n",
            "      settled = 1\n",
        ),
        ("scripts/lua/settle.lua", "redis.call('XDEL', key, unpack(done))", "local _ = done"),
    ),
    guard(
        "the kernel frees the turn of the dead",
        "A4",
        CRASHES + "test_a_killed_leader_does_not_keep_the_others_from_work",
        "no result of .* within",
        (
            "streamq/runner/reader_lock.py",
            "fcntl.lockf(self.descriptor, how, 1, self.number)",
            "fcntl.flock(self.descriptor, how)",
        ),
        ("streamq/worker/processes.py", "os.killpg(child.pid, signal.SIGKILL)", "pass"),
    ),
    guard(
        "the first signal asks the runners to stop",
        "A5",
        SHUTDOWN + "test_the_first_signal_lets_running_tasks_finish[prefork]",
        "assert 0 is None|Right contains 2 more items",
        (
            "streamq/worker/supervisor.py",
            "self.processes.signal_all(FINISH)",
            "self.processes.signal_all(signal.SIGKILL)",
        ),
    ),
    guard(
        "a stop charges no task",
        "A6",
        SIGNALS + "test_quit_stops_at_once_and_hands_everything_back_uncharged",
        r"\[0, 2\] == \[0, 1\]",
        (
            "streamq/worker/services/crash_recovery.py",
            "killed = stopped or child.kill_reason or forced_ends",
            "killed = child.kill_reason or forced_ends",
        ),
    ),
    guard(
        "a limit reaches a runner that is frozen",
        "A9",
        SIGNALS + "test_a_frozen_child_is_kept_until_its_hard_limit",
        "still not so after 20 s",
        (
            "streamq/worker/services/hard_limits.py",
            "running(past=grace_of(child))",
            "running(past=float('inf'))",
        ),
    ),
    guard(
        "runners leave a signal for the whole group to their worker",
        "A10",
        SIGNALS + "test_ctrl_c_reaches_the_whole_group_and_lets_tasks_finish",
        "assert 0 is None|'QUEUED' != 'SUCCESS'",
        ("streamq/worker/processes.py", "os.setsid()  # what", "pass  # what"),
        (
            "streamq/runner/runner.py",
            "        if sequential and slots.stop_requested(0):\n",
            "        if True:\n",
        ),
    ),
    guard(
        "a reason looks at what the machine has killed",
        "A12",
        HARD_LIMITS + "test_a_runner_that_we_ended_ran_out_of_nothing",
        r"killed by SIGKILL \(9\) while it ran the task \(out of memory\?\)",
        (
            "streamq/worker/processes.py",
            "if self.oom_seen and code == -signal.SIGKILL",
            "if code == -signal.SIGKILL",
        ),
    ),
    guard(
        "a reason names the signal",
        "A15",
        CRASH_BLAME + "test_the_reason_tells_how_a_runner_died_and_its_largest_memory[segfault]",
        r"killed by a signal \(11\)",
        ("streamq/worker/processes.py", "name = signal.Signals(-code).name", 'name = "a signal"'),
    ),
    guard(
        "whatever a task raises is caught",
        "A16",
        ODD_TASKS + "test_whatever_a_task_raises_is_a_failure_of_the_task[prefork-exit]",
        "WorkerLost.* == .*SystemExit",
        (
            "streamq/execution/executor.py",
            "except BaseException as error:  # also",
            "except Exception as error:  # also",
        ),
    ),
    guard(
        "a runner ends in order only if it says so",
        "A17",
        CRASHES + "test_whatever_code_a_task_exits_with_it_is_a_crash_of_its_runner[0]",
        "no result of .* within",
        (
            "streamq/worker/processes.py",
            "return self.child.slots.exited_cleanly",
            "return self.child.slots.exited_cleanly or self.status == 0",
        ),
    ),
    guard(
        "a worker does not wait for the threads of others",
        "A19",
        SHUTDOWN + "test_threads_of_a_module_keep_no_worker_from_ending",
        "TimeoutExpired",
        ("streamq/worker/boot.py", "    if left:\n", "    if not left:\n"),
    ),
    guard(
        "a runner looks at its memory",
        "A20",
        SCARCITY + "test_a_runner_that_has_grown_is_replaced_between_two_tasks[prefork]",
        "assert 1 >= 2",
        ("streamq/runner/lifetime.py", "and resident() > self.memory", "and 0 > self.memory"),
    ),
    guard(
        "a wait in the kernel counts as suspended",
        "A23",
        HARD_LIMITS + "test_who_waits_in_the_kernel_is_ended_at_its_limit",
        "assert not True",
        (
            "streamq/worker/services/hard_limits.py",
            'wait_suspended(child.pid, "TD")',
            "wait_suspended(child.pid)",
        ),
    ),
    guard(
        "one look at runners has its budget",
        "A23",
        HARD_LIMITS + "test_many_that_cannot_be_stopped_leave_time_for_leases_and_are_ended",
        r"< 1\.0",
        (
            "streamq/worker/services/hard_limits.py",
            "if clock.monotonic() - began > BUDGET:",
            "if False:",
        ),
    ),
    guard(
        "leases are renewed between two services",
        "A23",
        SERVICES + "test_services_that_are_late_delay_no_renewal_by_more_than_a_sixth_of_a_lease",
        "renewed late",
        ("streamq/worker/services/services.py", "if not away:", "if False:"),
    ),
    guard(
        "a service that has more to do stops for a renewal",
        "A23",
        SERVICES + "test_services_that_are_late_delay_no_renewal_by_more_than_a_sixth_of_a_lease",
        "renewed late",
        (
            "streamq/worker/services/service.py",
            "return clock.monotonic() >= self.deadline",
            "return False",
        ),
    ),
    guard(
        "leases are renewed while all greenlets are blocked",
        "A24",
        HOSTS + "test_a_task_that_blocks_all_greenlets_for_three_leases_is_not_run_twice",
        r"its lease ran out|assert \d+ == \d+",
        (
            "streamq/worker/services/heartbeat.py",
            "if child.slots.unreachable < lease]",
            "if not child.slots.running()]",
        ),
    ),
    guard(
        "a process of greenlets meets the hard limit of one",
        "A25",
        LIMITS + "test_a_task_that_never_waits_is_ended_too[gevent-busy]",
        "no result of .* within",
        (
            "streamq/worker/services/hard_limits.py",
            "running(past=grace_of(child))",
            "running(past=float('inf'))",
        ),
    ),
    guard(
        "the name of a consumer holds its process and chance",
        "A28",
        HOSTS + "test_what_one_of_two_workers_of_one_name_held_runs_again_when_that_is_killed",
        r"\[1, 1\] == \[1, 2\]",
        (
            "streamq/runner/config.py",
            'return f"{self.node}:{pid}:{self.token}"',
            "return self.node",
        ),
        (  # else they would have names of their own, and so would their consumers
            "scripts/lua/claim.lua",
            "local free = owner[1] == '' and owner[2] == ''",
            "local free = true",
        ),
    ),
    guard(
        "a worker takes no name that another one has",
        "A28",
        WORKER_NAMES + "test_a_living_worker_keeps_its_name_for_itself_and_the_second_one_says_so",
        "'w1@web' == 'w1-2@web'",
        ("scripts/lua/claim.lua", "if free or is(", "if true or is("),
    ),
    guard(
        "a process that cannot be seen counts as living",
        "A30",
        WORKER_NAMES + "test_who_cannot_be_seen_counts_as_living",
        "'worker@web' == 'worker-2@web'",
        ("streamq/worker/identity.py", "return Life.UNKNOWN", "return Life.GONE"),
    ),
    guard(
        "whether a process lives is asked of the kernel",
        "A30",
        "tests/unit/test_identity.py::test_a_process_that_proc_hides_from_another_user_lives",
        "gone",
        ("streamq/worker/identity.py", "os.kill(pid, 0)", 'Path(f"/proc/{pid}").stat()'),
        ("streamq/worker/identity.py", "ProcessLookupError, Over", "OSError, Over"),
    ),
    guard(
        "a folder that is locked is in use",
        "A30",
        "tests/unit/test_workdir.py::test_a_worker_that_starts_leaves_the_folders_of_others_alone",
        "is_dir",
        (
            "streamq/worker/workdir.py",
            "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n                if",
            "if",
        ),
    ),
    guard(
        "nothing runs that starts behind the mark",
        "A24",
        HUB_WATCHDOG + "test_what_starts_behind_the_mark_does_not_run",
        r"\[b'1-1'\] == \[\]",
        (
            "streamq/runner/pools/task_threads.py",
            "            if slots.is_taken() and not delivery.early:\n",
            "            if False:\n",
        ),
    ),
    guard(
        "starts are looked for behind the mark",
        "A24",
        HUB_WATCHDOG + "test_what_starts_while_redis_is_asked_does_not_go_back",
        "b'1-2'",
        (
            "streamq/runner/pools/hub_watchdog.py",
            "release(self.not_started(held), e",
            "release(held, e",
        ),
    ),
    guard(
        "the mark stays while somebody looks",
        "A24",
        HUB_WATCHDOG + "test_the_mark_stays_until_the_look_is_over_and_nothing_in_hand_outlives_it",
        "assert False",
        (
            "streamq/runner/pools/hub_watchdog.py",
            "                if not self.looking:\n",
            "                if True:\n",
        ),
    ),
    guard(
        "what we hold is compared with what was in hand before",
        "A24",
        HUB_WATCHDOG + "test_what_is_settled_while_redis_is_asked_what_we_hold_is_not_found_again",
        "check_start_command|== \\[\\]",
        (
            "streamq/runner/prefetch.py",
            "self.reclaim(self.consumer.deliveries(reply), held)",
            "self.reclaim(self.consumer.deliveries(reply), set())",
        ),
    ),
    guard(
        "expiry and revocation are asked again where time has passed",
        "A24",
        "tests/system/test_blocked.py::test_what_is_revoked_meanwhile_does_not_run[prefork-hold]",
        r"== \[\]",
        (
            "streamq/core/delivery.py",
            "RECHECK_AFTER = 50_000_000",
            "RECHECK_AFTER = 50_000_000_000",
        ),
    ),
    guard(
        "a worker that can write nowhere else keeps its files in memory",
        "A34",
        "tests/unit/test_workdir.py::test_where_nothing_else_can_be_written_it_is_in_memory",
        "no folder for temporary files",
        (
            "streamq/worker/workdir.py",
            "[Path(tempfile.gettempdir()), MEMORY]",
            "[Path(tempfile.gettempdir())]",
        ),
    ),
    guard(
        "a reload goes back to where its worker was started",
        "A35",
        "tests/system/test_environment.py::test_a_module_may_go_to_another_folder[prefork]",
        "no module named 'tasks'",
        ("streamq/worker/supervisor.py", "os.chdir(launch.home)", "pass"),
    ),
    guard(
        "a forked child gives up what is its runner's",
        "A31",
        "tests/system/test_inherited.py::test_what_a_task_starts_can_be_ended[prefork]",
        "no result of .* within",
        (
            "streamq/runner/inherited.py",
            "        if not self.handlers:\n            return\n        handlers, self",
            "        return\n        handlers, self",
        ),
    ),
    guard(
        "a runner has nothing to read",
        "A32",
        "tests/system/test_terminal.py::test_a_task_that_reads_its_input_finds_nothing[prefork]",
        r"no result of .* within|== \['EOFError'",
        ("streamq/worker/processes.py", "            read_nothing()\n", ""),
    ),
    guard(
        "what gevent has patched is refused where no greenlets run",
        "A33",
        "tests/system/test_patched.py::test_a_pool_without_greenlets_refuses_what_gevent_has_patched"
        "[patch_all()-prefork]",
        "timed out after|== 78",
        (
            "streamq/runner/patches.py",
            "[name for name in PATCHED if monkey.is_module_patched(name)]",
            "[]",
        ),
    ),
    guard(
        "what tasks leave behind is waited for",
        "A36",
        "tests/system/test_orphans.py::test_a_subreaper_waits_for_what_tasks_leave_behind[flags0]",
        "what they have left is waited for",
        ("streamq/worker/orphans.py", "os.getpid() == 1 or is_subreaper()", "False"),
    ),
]
