"""Guards against what may be wrong with messages and results: part C of the fault matrix."""

from tests.guards.guard import guard

ENQUEUE = "tests/integration/test_enqueue.py::"
PUBLISH_FAULTS = "tests/integration/test_publish_faults.py::"
FORKS = "tests/integration/test_forks.py::"
WAITER = "tests/integration/test_waiter.py::"
RESULTS = "tests/integration/test_results.py::"
SIGNING = "tests/integration/test_signing.py::"
VALUE_LIMITS = "tests/unit/test_value_limits.py::"
COMPRESSION = "tests/unit/test_compression.py::"
EXECUTOR = "tests/unit/test_executor.py::"
OUTCOMES = "tests/unit/test_outcomes.py::"
EXCEPTIONS = "tests/unit/test_exceptions.py::"
REJECT = "tests/lua/test_reject.py::"
ACL = "tests/integration/test_acl.py::"
OUT_OF_IDS = "tests/integration/test_out_of_ids.py::"
DEAD_LETTERS = "tests/system/test_dead_letters.py::"
DATA = "tests/promises/test_data.py::"
OVERLOAD = "tests/system/test_overload.py::"
REVOKED = "tests/system/test_revoked.py::"
GENERATIONS = "tests/system/test_generations.py::"

GUARDS = [
    guard(
        "a refusal after a lost answer is said to be unknown",
        "C2",
        PUBLISH_FAULTS
        + "test_after_a_lost_answer_no_refusal_says_that_nothing_was_written[short_way-MISCONF]",
        "nothing was written",
        (
            "streamq/broker/publish_retry.py",
            "if not self.sent or (isinstance(error, Refusal) and error.is_unroutable):",
            "if True:",
        ),
    ),
    guard(
        "after a lost answer a refusal is not the last word",
        "C2",
        PUBLISH_FAULTS
        + "test_after_a_lost_answer_a_redis_that_takes_no_writes_is_asked_again[short_way-MISCONF]",
        "PublishUnknown",
        ("streamq/broker/publish_retry.py", "return passes or self.sent", "return passes"),
    ),
    guard(
        "an id that was accepted is forgotten after a while",
        "C3",
        ENQUEUE + "test_after_the_window_an_id_is_new_once_its_task_has_ended[1ms]",
        "still not so after",
        ("scripts/lua/includes/publish_message.lua", "answer, 'PX', message.window)", "answer)"),
    ),
    guard(
        "an id is accepted once until its task has ended",
        "C3",
        GENERATIONS + "test_an_id_is_accepted_once_while_its_task_runs_and_what_runs_is_terminated",
        "assert 4 == 1",
        (
            "scripts/lua/publish.lua",
            "local state, queues = generations().unended(message.id)",
            "local state, queues = nil, nil",
        ),
    ),
    guard(
        "an id that is used again begins a generation",
        "C3",
        GENERATIONS + "test_a_job_of_every_day_is_tried_again_whatever_became_of_the_day_before",
        "streamq.errors.Revoked|ResultTimeout|assert .* == ",
        (
            "scripts/lua/includes/publish_message.lua",
            "if message.chosen then\n    message.generation",
            "if false then\n    message.generation",
        ),
    ),
    guard(
        "a revocation ends with its generation",
        "C3",
        GENERATIONS + "test_what_was_revoked_yesterday_runs_today[None]",
        "Revoked|ResultTimeout",
        (
            "scripts/lua/includes/generations.lua",
            "name)) == 'string' then",
            "name)) == 'nothing' then",
        ),
        (
            "scripts/lua/includes/names.lua",
            "  return generation == '1' and id or id .. '::' .. generation\n",
            "  return id\n",
        ),
        (
            "streamq/core/names.py",
            'return id if generation == b"1" else b"%s::%s" % (id, generation)',
            "return id",
        ),
    ),
    guard(
        "an end is that of its own generation",
        "C3",
        "tests/lua/test_generations.py"
        "::test_the_end_of_the_older_one_is_nothing_to_the_newer_one[SUCCESS]",
        "assert",
        (
            "scripts/lua/includes/finish.lua",
            "local another = (before[4] or '1') ~= generation",
            "local another = false",
        ),
    ),
    guard(
        "a forked child takes channels of its own",
        "C4",
        FORKS + "test_parent_and_children_send_at_the_same_time",
        r"that of the parent has lived on|assert all|assert \d+ == 401|== \(300, 100\)",
        ("streamq/host/forks.py", "page.madvise(WIPE_ON_FORK)", "pass"),
    ),
    guard(
        "a child leaves its parent's connection open",
        "C4",
        FORKS + "test_a_fork_amid_enqueue_many_goes_on_on_both_sides[child-in_c]",
        r"assert \['\d+'\] == \['\d+'\]",
        ("streamq/transport/connection.py", "elif self.forks == FORKS.count:", "else:"),
    ),
    guard(
        "a forked child waits on a connection of its own",
        "C4",
        FORKS + "test_a_wait_goes_on_on_both_sides[in_c]",
        "still not so after 8 s: each has its own",
        ("streamq/broker/waiter.py", "if self.forks != FORKS.count:", "if False:"),
        ("streamq/transport/connection.py", "self.forks != FORKS.mark[0] or ", ""),
    ),
    guard(
        "a child takes over the waits that it inherited",
        "C4",
        FORKS + "test_a_wait_goes_on_on_both_sides[in_c]",
        "ended_well",
        (
            "streamq/broker/waiter.py",
            "pending is not None and pending.forks != self.forks",
            "False",
        ),
    ),
    guard(
        "ids that were drawn in advance are of one connection",
        "C4",
        FORKS + "test_a_fork_amid_enqueue_many_goes_on_on_both_sides[child-in_c]",
        "assert 1[0-9]+ == 1[0-9]+",
        ("streamq/producer/bulk.py", "if session != chunk.session:", "if False:"),
    ),
    guard(
        "each connection has a session of its own",
        "C25",
        FORKS + "test_each_connection_has_a_session_of_its_own",
        "assert 1 == 3",
        (
            "streamq/transport/connection.py",
            "self.session = secrets.token_hex(8)",
            "self.session = 'a'",
        ),
    ),
    guard(
        "a call is known by its first id, too",
        "C25",
        FORKS + "test_the_copy_of_a_machine_sends_what_it_sends[one_by_one-1]",
        r"== \[-2, -1, 0, 1\]",
        (
            "scripts/lua/publish_plain.lua",
            "number .. ' ' .. (ARGV[shared_to + 1] or '')",
            "number .. ' '",
        ),
    ),
    guard(
        "what no queue wants is refused",
        "C6",
        ENQUEUE + "test_what_leads_nowhere_is_unroutable_and_writes_nothing",
        "DID NOT RAISE",
        (
            "scripts/lua/includes/destinations.lua",
            "elseif not destination.queues[1] then",
            "elseif false then",
        ),
    ),
    guard(
        "publishing needs memory before it begins",
        "C7",
        "tests/lua/test_publish.py::test_a_server_without_memory_refuses_the_whole_call",
        "DID NOT RAISE",
        ("scripts/lua/publish.lua", "#!lua\n", "#!lua flags=allow-oom\n"),
    ),
    guard(
        "what cannot be decoded is an error of ours",
        "C8",
        VALUE_LIMITS + "test_any_bytes_end_as_a_value_or_an_error_of_ours",
        "msgspec.DecodeError: ",
        (
            "streamq/serialization/codec.py",
            'raise unreadable(data, "json", error) from error',
            "raise",
        ),
    ),
    guard(
        "a message that cannot be decoded is dead-lettered by its runner",
        "C8",
        DATA + "test_messages_that_cannot_be_run_become_dead_letters",
        "KeyError: 'dead_reason'",
        (
            "streamq/execution/executor.py",
            "except (DecodeError, ConfigError) as",
            "except ConfigError as",
        ),
    ),
    guard(
        "a dead letter keeps the fields of its message as they came",
        "C8",
        DATA + "test_messages_that_cannot_be_run_become_dead_letters",
        "KeyError: 'task'",
        (
            "scripts/lua/includes/dead.lua",
            "set_field(fields, 'id', id)",
            "fields = { 'id', id }",
        ),
    ),
    guard(
        "a message that names no task is not offered to others",
        "C9",
        EXECUTOR + "test_a_message_that_names_no_task_is_dead_lettered",
        "b'no task'",
        ("streamq/execution/outcomes.py", "if not name:", "if False:"),
        (
            "streamq/execution/outcomes.py",
            "if (error := misnamed(delivery, name)) is not None:",
            "if (error := None) is not None:",
        ),
    ),
    guard(
        "a field that should be a number may be anything",
        "C9",
        DEAD_LETTERS + "test_odd_fields_do_no_harm",
        "still not so after 20 s: .*soon",
        ("streamq/core/delivery.py", "found.isdigit() and ", ""),
    ),
    guard(
        "a letter is written in pieces however many fields it has",
        "C9",
        DEAD_LETTERS + "test_fields_that_nobody_knows_do_no_harm_however_many[9000]",
        "ResultTimeout: no result of lost",
        ("scripts/lua/includes/hashes.lua", "#values, 1000 do", "#values, 100000 do"),
        ("scripts/lua/includes/hashes.lua", "math.min(at + 999, #values)", "#values"),
    ),
    guard(
        "a content type that is not accepted is not decoded",
        "C10",
        DATA + "test_a_pickle_is_not_loaded_where_it_was_not_asked_for",
        "EncodeError: cannot write an object of type TextIOWrapper",
        ("streamq/serialization/payload.py", "allowed(content_type, self.accept)", "pass"),
    ),
    guard(
        "a compression that nobody knows is not taken for none",
        "C10",
        DATA + "test_messages_that_cannot_be_run_become_dead_letters",
        "DID NOT RAISE DecodeError",
        (
            "streamq/serialization/compression.py",
            "    if name not in METHODS:\n        raise DecodeError(",
            "    if name not in METHODS:\n        return data\n        raise DecodeError(",
        ),
    ),
    guard(
        "an unknown task is dead-lettered when its patience ends",
        "C11",
        EXECUTOR + "test_an_unknown_task_is_offered_again_and_again_before_it_is_dead_lettered",
        "Left contains 6 more items",
        ("streamq/execution/outcomes.py", "        if left > 0:", "        if True:"),
    ),
    guard(
        "JSON knows no number that is none",
        "C12",
        VALUE_LIMITS + "test_json_holds_no_nan_no_infinity_and_nothing_but_utf_8",
        "DID NOT RAISE",
        (
            "streamq/serialization/strict_json.py",
            "read_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode",
            "read_json: Callable[[bytes], Any] = json.loads",
        ),
    ),
    guard(
        "what is read as JSON is UTF-8",
        "C13",
        VALUE_LIMITS + "test_json_holds_no_nan_no_infinity_and_nothing_but_utf_8",
        "DID NOT RAISE",
        (
            "streamq/serialization/strict_json.py",
            "Callable[[bytes], Any] = msgspec.json.Decoder().decode",
            "Any = lambda data: msgspec.json.decode(data.decode(errors='replace'))",
        ),
    ),
    guard(
        "nothing over the limit is sent",
        "C14",
        ENQUEUE + "test_a_message_over_the_limit_is_refused",
        "DID NOT RAISE",
        ("streamq/producer/encoding.py", "if size > payloads.limit:", "if False:"),
        ("streamq/serialization/payload.py", "if len(data) > self.limit:", "if False:"),
    ),
    guard(
        "unpacking stops at the first byte too many",
        "C15",
        COMPRESSION + "test_a_bomb_is_stopped_at_the_limit_without_being_unpacked[zstd]",
        r"assert \d+ < \(8 \* 1048576\)",
        (
            "streamq/serialization/compression.py",
            "decompress(data, most + 1)",
            "decompress(data, 10**9)",
        ),
    ),
    guard(
        "a signature is good for one queue",
        "C16",
        SIGNING + "test_a_message_that_was_moved_to_another_queue_never_runs",
        "DID NOT RAISE",
        (
            "streamq/serialization/signing.py",
            'place = b"" if fields.get(b"exchange") else queue',
            'place = b""',
        ),
    ),
    guard(
        "of many forged messages few are told",
        "C16",
        SIGNING + "test_a_flood_of_forged_messages_does_not_fill_the_log",
        r"assert \d+ <= 20",
        (
            "streamq/execution/task_log.py",
            "self.bad_signatures = LogLimit(1.0)",
            "self.bad_signatures = LogLimit(0.0)",
        ),
    ),
    guard(
        "a copy of a fan-out is signed for no other queue",
        "C16",
        SIGNING + "test_a_copy_of_a_fan_out_is_not_tried_again_in_another_queue",
        "SignatureInvalid: the signature does not fit the message",
        ("streamq/serialization/signing.py", "        if not in_place:", "        if False:"),
    ),
    guard(
        "what waits too long for its queue expires",
        "C17",
        REVOKED + "test_what_waited_too_long_in_its_queue_is_not_run[prefork]",
        "DID NOT RAISE Revoked",
        (
            "scripts/lua/includes/emit.lua",
            "local ttl = not message.ageless and queue.message_ttl",
            "local ttl = nil",
        ),
    ),
    guard(
        "a task that does not stop when it is asked to is ended",
        "C18",
        REVOKED + "test_a_task_that_catches_everything_is_terminated_all_the_same[prefork]",
        "ResultTimeout: no result of",
        ("streamq/errors.py", "class Stopped(BaseException):", "class Stopped(Exception):"),
        (
            "streamq/worker/services/hard_limits.py",
            "if request.until <= clock.monotonic() and not request.child.kill_reason:",
            "if False:",
        ),
    ),
    guard(
        "a signal excuses the end of a runner only while its task runs",
        "C18",
        REVOKED + "test_a_signal_that_a_task_survives_excuses_no_later_crash",
        "assert 2 == 1",
        (
            "streamq/worker/services/crash_recovery.py",
            "child.forced_ends if (each.stream, each.entry) in running]",
            "child.forced_ends]",
        ),
    ),
    guard(
        "a value that cannot be written fails its task",
        "C19",
        RESULTS + "test_whatever_cannot_be_written_fails_its_task_and_no_other",
        "assert 1 == 0",
        (
            "streamq/execution/outcomes.py",
            "except BaseException as error:  # a class of the task may raise anything",
            "except Stopped as error:",
        ),
    ),
    guard(
        "of a long message the beginning is kept",
        "C20",
        EXCEPTIONS + "test_messages_and_tracebacks_are_bounded",
        "assert 1000000 == 4096",
        ("streamq/serialization/exceptions.py", "return text[:LONGEST_MESSAGE]", "return text"),
    ),
    guard(
        "of a long traceback the end is kept",
        "C20",
        EXCEPTIONS + "test_messages_and_tracebacks_are_bounded",
        r"assert \d+ <= \(65536 \+ 1\)",
        (
            "streamq/serialization/exceptions.py",
            "return text if len(text) <= LONGEST_TRACEBACK else",
            "return text or",
        ),
    ),
    guard(
        "an exception whose text cannot be had is described",
        "C20",
        EXCEPTIONS + "test_a_text_that_cannot_be_had_is_said",
        "RuntimeError: no text",
        (
            "streamq/serialization/exceptions.py",
            "    except BaseException as failed:\n        text = ",
            "    except TimeoutError as failed:\n        text = ",
        ),
    ),
    guard(
        "an exception is made again without its own methods",
        "C20",
        EXCEPTIONS + "test_no_method_of_a_class_runs_when_its_exception_is_made_again",
        "E   SystemExit",
        (
            "streamq/serialization/exceptions.py",
            "error: Exception = maker.__new__(cls, *values)",
            "error: Exception = cls(*values)",
        ),
    ),
    guard(
        "the metaclass of an exception is not asked",
        "C20",
        EXCEPTIONS + "test_no_metaclass_is_asked_when_an_exception_is_made_again",
        "E   SystemExit",
        ("streamq/serialization/exceptions.py", "type.__new__(kind, ", "kind("),
    ),
    guard(
        "an exception shows what its worker recorded",
        "C20",
        EXCEPTIONS + "test_an_exception_shows_what_the_worker_recorded_and_is_caught_by_its_class",
        "AssertionError: assert '",
        (
            "streamq/serialization/exceptions.py",
            'if plain and owner(cls, "__str__").__str__(error) == text:',
            "if 1:",
        ),
    ),
    guard(
        "an exception is copied by what was recorded",
        "C20",
        EXCEPTIONS + "test_an_exception_that_was_made_again_can_be_copied",
        "TypeError: ",
        ("streamq/serialization/exceptions.py", "if not is_made_otherwise(cls):", "if 1:"),
    ),
    guard(
        "the truth of an exception is not asked for",
        "C20",
        EXCEPTIONS
        + "test_an_exception_that_was_made_again_is_compared_and_formatted_as_others_are",
        "AttributeError: 'Several' object has no attribute 'errors'",
        (
            "streamq/serialization/exceptions.py",
            "    if error is None:  # not its truth",
            "    if not error:  # its truth",
        ),
        ("streamq/serialization/exceptions.py", 'names["__bool__"] = always', "pass"),
    ),
    guard(
        "the class of an exception is looked for among what is loaded",
        "C20",
        EXCEPTIONS + "test_a_class_that_is_not_loaded_becomes_a_task_error",
        "assert .*unloaded.Odd.* is TaskError",
        (
            "streamq/host/modules.py",
            "yield names_in(sys.modules.get(module))",
            "yield names_in(__import__('pydoc').locate(module))",
        ),
    ),
    guard(
        "a result over the limit is not written",
        "C21",
        RESULTS + "test_a_result_over_the_limit_fails_its_task",
        "DID NOT RAISE",
        ("streamq/execution/outcomes.py", "if len(data) > self.results.limit:", "if False:"),
    ),
    guard(
        "who waits for what nobody knows looks again after a while",
        "C22",
        RESULTS + "test_a_result_that_expired_before_it_was_read_ends_the_wait",
        r"assert \(\d.* - .*\) < 5",
        ("streamq/broker/waiter.py", "pending.known or pending.began < before:", "pending.known:"),
    ),
    guard(
        "who waits for a record that vanishes is told",
        "C22",
        WAITER + "test_a_record_that_vanishes_ends_the_wait",
        "E   TimeoutError",
        ("streamq/broker/waiter.py", "if id in pending.known or pending.began", "if pending.began"),
    ),
    guard(
        "what is said to those who wait expires",
        "C23",
        OVERLOAD + "test_who_dies_while_it_waits_leaves_nothing",
        r"leaked: \['{streamq}:reply:",
        ("scripts/lua/includes/finish.lua", "redis.call('PEXPIRE', reply, REPLY_LIFE_MS)", ""),
    ),
    guard(
        "one who waits reads for all",
        "C23",
        OVERLOAD + "test_those_who_wait_in_one_process_need_one_connection",
        r"assert \d+ == 1",
        ("streamq/broker/waiter.py", "return self.leader is pending", "return True"),
        (
            "streamq/broker/waiter.py",
            "return self.connection.ask(",
            'return Connection(self.client.url, name="streamq:waiting").ask(',
        ),
    ),
    guard(
        "who rejects without end is paused",
        "D5",
        OUTCOMES + "test_who_rejects_again_and_again_is_paused_for_longer_each_time",
        r"assert \[0.0, 0.0, 0.0",
        (
            "streamq/core/delivery.py",
            "return 0.0 if earlier < 0 else REJECTION_BACKOFF.pause(earlier)",
            "return 0.0",
        ),
    ),
    guard(
        "what was rejected comes back to the front",
        "D5",
        REJECT + "test_with_a_pause_it_waits_outside_and_then_goes_to_the_front",
        "not enough values to unpack",
        (
            "scripts/lua/promote.lua",
            "elseif field(fields, 'rejections') and stream == front_of(stream) then",
            "elseif false then",
        ),
    ),
    guard(
        "a fan-out asks whether each of its queues has ids",
        "C26",
        OUT_OF_IDS + "test_every_way_to_send_names_the_queue_and_writes_nothing[send_to_all]",
        "DID NOT RAISE",
        (
            "scripts/lua/publish.lua",
            "refused = find_out_of_ids(messages)",
            "refused = nil",
        ),
    ),
    guard(
        "who holds a message has it in the fresh stream",
        "C26",
        OUT_OF_IDS + "test_what_runs_during_the_repair_is_settled_once",
        "ResultTimeout",
        ("scripts/lua/repair.lua", "holder_of[each[1]] = each", ""),
    ),
    guard(
        "what takes a right asks for it before it begins",
        "C27",
        ACL
        + "test_a_producer_that_lacks_a_right_is_told_which_and_nothing_is_done[declaring-declare]",
        r"assert not (True|isinstance)",
        (
            "streamq/broker/topology.py",
            "        self.require_right([queue.name for queue in queues], reason=reason)\n",
            "",
        ),
    ),
]
