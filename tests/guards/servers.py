"""Guards against what Redis and the network may do: part B of the fault matrix."""

from tests.guards.guard import guard

ALL_AWAY = "tests/system/test_all_away.py::"
CONFIRM = "tests/integration/test_confirm.py::"
OVERLOAD = "tests/system/test_overload.py::"
DATA_LOSS = "tests/system/test_data_loss.py::"
ERRORS = "tests/system/test_redis_errors.py::"
OUTAGES = "tests/system/test_outages.py::"
PUBLISHING = "tests/integration/test_publish_faults.py::"

GUARDS = [
    guard(
        "a producer that has lost its Redis asks again",
        "B2",
        DATA_LOSS + "test_a_killed_server_has_lost_at_most_what_it_held_back",
        "calls are accepted",
        ("streamq/broker/publish_retry.py", "return passes or self.sent", "return False"),
    ),
    guard(
        "what was settled in vain is found again",
        "B3",
        DATA_LOSS + "test_a_power_failure_costs_what_was_not_yet_on_disk",
        "what was settled in vain runs again",
        (
            "streamq/runner/prefetch.py",
            "if self.broken or monotonic() - self.compared_at > self.lease:",
            "if False:",
        ),
    ),
    guard(
        "a queue that is gone is declared again by whoever comes first",
        "B4",
        OUTAGES + "test_an_idle_worker_serves_a_server_that_lost_everything[prefork]",
        "there is no queue 'default'",
        (
            "streamq/producer/templates.py",
            "missing = list(map(Queue, keys)) if self.conf.task_create_missing_queues else []",
            "missing: list[Queue] = []",
        ),
        (
            "streamq/runner/runner.py",
            "self.app.broker.topology.restore(name, ours.get(name) or Queue(name))",
            "pass",
        ),
    ),
    guard(
        "a process that waits for what nobody can settle is ended",
        "B4",
        DATA_LOSS + "test_a_server_that_comes_back_empty_is_served[prefork]",
        "what waits for it is ended",
        (
            "streamq/worker/services/fenced_runners.py",
            "if now - child.fenced_at > self.shutdown_timeout:",
            "if False:",
        ),
    ),
    guard(
        "who finds a stream gone makes it again",
        "B5",
        DATA_LOSS + "test_a_reader_that_waits_finds_what_was_taken_from_it[stream_deleted]",
        "ResultTimeout",
        (
            "streamq/runner/prefetch.py",
            "self.open()  # the error makes the next read wait\n            raise",
            "raise",
        ),
        ("streamq/runner/prefetch.py", "self.open()\n                continue", "continue"),
    ),
    guard(
        "a group that is made again begins at the beginning",
        "B6",
        DATA_LOSS + "test_a_reader_that_waits_finds_what_was_taken_from_it[group_destroyed]",
        "ResultTimeout",
        (
            "scripts/lua/includes/streams.lua",
            "key, 'workers', '0', 'MKSTREAM'",
            "key, 'workers', '$', 'MKSTREAM'",
        ),
    ),
    guard(
        "a wait goes on when its connection breaks",
        "B7",
        "tests/integration/test_waiter.py::"
        "test_a_wait_survives_the_loss_of_every_connection_again_and_again",
        "still not so after 20 s|raised Disconnected",
        (
            "streamq/broker/waiter.py",
            "except BrokerUnavailable as error:",
            "except LookupError as error:",
        ),
    ),
    guard(
        "scripts that were forgotten are loaded again",
        "B8",
        OUTAGES + "test_scripts_forgotten_between_quick_tasks_cost_no_runner",
        "ResultTimeout",
        ("streamq/broker/consumer.py", 'if reply.code == "NOSCRIPT":', "if False:"),
    ),
    guard(
        "what too few replicas have is not confirmed",
        "B10",
        CONFIRM + "test_a_master_that_dies_takes_with_it_what_no_replica_confirmed",
        "DID NOT RAISE .*NotConfirmed",
        ("streamq/broker/confirmation.py", "if int(reply) < self.replicas:", "if False:"),
    ),
    guard(
        "the Sentinels are asked for the master at each connection",
        "B10",
        "tests/system/test_sentinel.py::"
        "test_a_killed_master_is_replaced_under_producers_and_a_worker",
        "tasks run again",
        (
            "streamq/transport/address.py",
            "    def master(self) -> tuple[str, int]:",
            "    @cache\n    def master(self) -> tuple[str, int]:",
        ),
    ),
    guard(
        "only what replicas have counts as confirmed",
        "B11",
        "tests/system/test_split_brain.py::test_what_was_confirmed_is_known_to_the_new_master",
        r"== set\(\)",
        ("streamq/broker/confirmation.py", "if int(reply) < self.replicas:", "if False:"),
    ),
    guard(
        "a server that Sentinels name has to say that it is the master",
        "B12",
        "tests/system/test_sentinel.py::"
        "test_a_server_that_sentinels_name_and_that_is_no_master_is_not_used",
        "DID NOT RAISE .*Disconnected",
        ("streamq/transport/address.py", 'if role != "master":', "if False:"),
    ),
    guard(
        "who is told that another server is the master connects anew",
        "B12",
        PUBLISHING + "test_the_next_try_after_a_failover_is_made_on_a_new_connection",
        r"assert not \(\{",
        (
            "streamq/transport/connection.py",
            "self.outdated |= isinstance(error, Failover)",
            "pass",
        ),
    ),
    guard(
        "a full Redis lets workers settle",
        "B13",
        "tests/lua/test_settle.py::test_settling_works_when_memory_is_full[an end]",
        "OutOfMemoryError|OOM",
        ("scripts/lua/settle.lua", "#!lua flags=allow-oom", "#!lua"),
    ),
    guard(
        "a full Redis is told as such",
        "B13",
        ERRORS + "test_a_full_redis_is_drained",
        "OOM",
        ("streamq/transport/replies.py", 'if code == "OOM":', "if False:"),
    ),
    guard(
        "the doctor warns of an eviction policy",
        "B14",
        "tests/integration/test_doctor.py::test_eviction_and_memory_are_those_of_the_server",
        "assert 'ok' == 'problem'",
        ("streamq/admin/doctor/server.py", 'if policy == "noeviction":', "if True:"),
    ),
    guard(
        "a busy server is waited for, and nobody is judged meanwhile",
        "B15",
        ALL_AWAY + "test_a_server_that_is_busy_with_a_long_script[prefork]",
        "twice: a",
        (
            "streamq/worker/lease_view.py",
            "return self.since is not None and now - self.since >= JUDGE_AFTER * self.lease",
            "return True",
        ),
    ),
    guard(
        "a server that loads is waited for, and nobody is judged meanwhile",
        "B16",
        ALL_AWAY + "test_a_server_that_loads_a_large_file[prefork]",
        "twice: a",
        (
            "streamq/worker/lease_view.py",
            "return self.since is not None and now - self.since >= JUDGE_AFTER * self.lease",
            "return True",
        ),
    ),
    guard(
        "a worker that starts waits for a server that loads",
        "B16",
        ERRORS + "test_a_worker_that_starts_while_redis_loads_waits_for_it[stays]",
        "ResultTimeout",
        (
            "streamq/transport/replies.py",
            'PASSING = frozenset({"LOADING", "TRYAGAIN", "BUSY"})',
            'PASSING = frozenset({"TRYAGAIN", "BUSY"})',
        ),
    ),
    guard(
        "many messages share a round trip",
        "B20",
        "tests/system/test_lost_replies.py::test_half_a_second_each_way[prefork]",
        "ResultTimeout",
        ("streamq/broker/consumer.py", "MOST_SETTLED = 100", "MOST_SETTLED = 1"),
    ),
    guard(
        "what was read in vain is found again",
        "B21",
        "tests/system/test_lost_replies.py::"
        "test_one_reply_of_a_hundred_lost_with_its_connection[prefork]",
        "ResultTimeout|nothing waits, now or for later",
        (
            "streamq/runner/prefetch.py",
            "if self.broken or monotonic() - self.compared_at > self.lease:",
            "if False:",
        ),
    ),
    guard(
        "a server that takes no more clients is waited for",
        "B23",
        PUBLISHING + "test_a_server_that_takes_no_more_clients_is_waited_for",
        "max number of clients",
        ("streamq/transport/replies.py", "if TOO_MANY_CLIENTS in text:", "if False:"),
    ),
    guard(
        "a notifier that cannot connect keeps no other service waiting",
        "B23",
        OVERLOAD + "test_a_notifier_that_cannot_connect_blocks_no_other_service",
        "it was promoted, and ran",
        (
            "streamq/worker/services/notices.py",
            "except BrokerUnavailable as error:",
            "except ZeroDivisionError as error:",
        ),
    ),
    guard(
        "a connection that is idle is used before another is made",
        "B24",
        OVERLOAD + "test_a_process_has_three_connections_at_most_whatever_it_does[prefork]",
        r"assert \d+ <= \(3 \* \(1 \+ 2\)\)",
        (
            "streamq/transport/pool.py",
            """        try:
            return self.idle.pop()
        except IndexError:
            pass  # outside""",
            """        try:
            if len(self.made) >= self.most:
                return self.idle.pop()
        except IndexError:
            pass  # outside""",
        ),
        (
            "streamq/transport/pool.py",
            """                    try:
                        return self.idle.pop()
                    except IndexError:
                        pass
                    if""",
            """                    if""",
        ),
    ),
    guard(
        "a full disk is told as such",
        "B25",
        "tests/system/test_disk_full.py::test_a_server_that_cannot_write_is_waited_for[prefork]",
        "MISCONF",
        ("streamq/transport/replies.py", "if code in WRITES_REFUSED:", "if False:"),
    ),
    guard(
        "a reader takes no more than a little at once",
        "B26",
        "tests/nightly/test_overload.py::test_a_million_messages_are_worked_off_as_fast_as_a_few",
        r"assert 0\.0 > |pending|Timeout reading",
        ("streamq/broker/consumer.py", '"COUNT", count, *waiting', "*waiting"),
    ),
    guard(
        "a moment ahead is reckoned by the clock of the server",
        "B29",
        "tests/system/test_clocks.py::"
        "test_wrong_clocks_of_producers_and_workers_change_nothing[behind]",
        "streamq.errors.Revoked",
        (
            "streamq/core/message.py",
            'return f"+{round(seconds * 1000)}"',
            'return str(round((__import__("time").time() + seconds) * 1000))',
        ),
    ),
    guard(
        "a moment without a zone is in the zone of the app",
        "B30",
        "tests/integration/test_retry_eta_revoke.py::test_an_eta_without_a_zone_is_in_the_zone_of_the_app",
        "assert 2000",
        (
            "streamq/core/message.py",
            'moment.replace(tzinfo=ZoneInfo(zone or "UTC"))',
            "moment.astimezone()",
        ),
    ),
    guard(
        "each new connection is asked what its server can",
        "B32",
        CONFIRM + "test_the_server_is_asked_what_it_can_once_for_each_connection",
        r"assert 7 in \(8, 9\)",
        (
            "streamq/broker/publisher_channel.py",
            "return self.probed is not None and self.probed is self.connection.link",
            "return self.probed is not None",
        ),
    ),
    guard(
        "the names of all keys begin with the same tag",
        "B33",
        "tests/system/test_cluster.py::"
        "test_whatever_the_namespace_is_called_its_keys_have_its_tag[streamq]",
        r"== \{'\{streamq'\}",
        ("streamq/transport/keys.py", 'return f"{{{self.namespace}}}"', "return self.namespace"),
    ),
]
