"""Histories that seldom happen by chance, step by step, on the same bench."""

from collections.abc import Callable
from typing import Any

from tests.model.bench import Bench
from tests.model.broker import RunnerExit
from tests.model.calls import Ending
from tests.model.ends import drain, ending, followed
from tests.model.profiles import BRIEF, IN_A_CIRCLE, PLAIN, RANKED, SENT_NOWHERE, SENT_ON
from tests.model.reuse import REUSES
from tests.model.steps import AT_ONCE, DEAD_LETTER, bench_for, declare, done, take


def a_plain_message_is_sent_again(bench: Bench) -> None:
    bench.publish_plain("mail", "a")
    bench.send_again()


def an_id_is_used_again_after_its_window(bench: Bench) -> None:
    for _ in range(2):
        bench.settle("c", done(take(bench, "u", window=1000)))
        bench.window_passes("u")


def a_message_is_followed_twice(bench: Bench) -> None:
    token = take(bench, "a")
    assert bench.follow("c", followed(token, (), False)) == "1"
    assert bench.follow("c", followed(token, (), False)) == "0"


def the_answer_of_settle_is_lost(bench: Bench) -> None:
    bench.settle("c", done(take(bench, "a")))
    assert bench.settle_again("c") == "1"


def the_answer_of_follow_is_lost(bench: Bench) -> None:
    bench.follow("c", followed(take(bench, "a"), AT_ONCE, False))
    assert bench.settle_again("c") == "1"


def a_revoked_task_ends_without_a_state(bench: Bench) -> None:
    token = take(bench, "a")
    bench.revoke("a")
    bench.advance(1)
    bench.settle("c", ending(token, "left", False))


def a_task_is_revoked_while_it_runs_and_tried_again(bench: Bench) -> None:
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.revoke("a")
    bench.follow("c", followed(token, AT_ONCE, False))


def a_revoked_message_is_met(bench: Bench) -> None:
    bench.send(bench.message("mail", id="a", keep=False))
    bench.revoke("a")
    (token,) = bench.read("c", "mail")
    bench.follow("c", Ending(token=token, follow=("revoked",)))


def an_acknowledged_message_is_handed_back(bench: Bench) -> None:
    """It goes back once, only as an early message, and only while its queue exists."""
    token = take(bench, "a")
    bench.settle("c", starts=[token])
    bench.release("c", token)
    bench.release("c", token, early=True)
    bench.release("c", token, early=True)
    (again,) = bench.read("c", "mail:returned")
    bench.settle("c", starts=[again])
    bench.delete_queue("mail")
    bench.release("c", again, early=True)


def a_queue_is_deleted_before_an_early_message_is_tried_again(bench: Bench) -> None:
    token = take(bench, "a")
    bench.settle("c", starts=[token])
    bench.delete_queue("mail")
    bench.follow("c", followed(token, AT_ONCE, True))
    bench.promote()


def a_task_is_tried_again_after_its_message_would_be_stale(bench: Bench) -> None:
    declare(bench, "post", BRIEF)
    bench.send(bench.message("post", id="a"))
    (token,) = bench.read("c", "post")
    bench.follow("c", followed(token, AT_ONCE, False))


def an_id_dies_twice_and_is_sent_on_twice(bench: Bench) -> None:
    declare(bench, "mail", SENT_ON)
    for _ in range(2):
        bench.follow("c", followed(take(bench, "u", window=1000), DEAD_LETTER, False))
        bench.settle("c", done(bench.read("c", "morgue")[0]))
        bench.window_passes("u")


def a_dead_letter_goes_in_a_circle(bench: Bench) -> None:
    declare(bench, "mail", IN_A_CIRCLE)
    token = take(bench, "a")
    for _ in range(11):
        bench.follow("c", followed(token, DEAD_LETTER, False))
        if found := bench.read("c", "mail"):
            (token,) = found
    assert list(bench.model.dead) == ["mail"]


def more_dead_letters_than_are_kept(bench: Bench) -> None:
    for id in "abc":
        bench.follow("c", followed(take(bench, id), DEAD_LETTER, False))
        bench.advance(1)


def a_dead_letter_is_retried_after_a_crash(bench: Bench) -> None:
    token = take(bench, "a", fields={"max_deliveries": "1"})
    bench.recover(RunnerExit(consumer="c", running=(token.place,)))
    assert bench.retry_dead("mail", "a") == 1
    assert bench.retry_dead("mail", "a") == 0


def a_dead_letter_is_imported_after_it_was_retried(bench: Bench) -> None:
    bench.follow("c", followed(take(bench, "a"), DEAD_LETTER, False))
    bench.delete_dead("mail", "a")
    for word in ("kept", "known"):
        assert bench.import_letter(bench.exported[0])[0] == word
    bench.retry_dead("mail", "a")
    assert bench.import_letter(bench.exported[0])[0] == "known"


def two_of_one_id_are_scheduled_and_revoked(bench: Bench) -> None:
    for due in (1000, 2000):
        bench.send(bench.message("mail", id="u", window="none", due=due, keep=False))
    bench.revoke("u")
    bench.advance(5000)
    bench.promote()


def a_queue_loses_its_levels_while_a_message_is_scheduled(bench: Bench) -> None:
    declare(bench, "mail", RANKED)
    bench.send(bench.message("mail", id="a", priority=2, due=1000))
    bench.delete_queue("mail")
    declare(bench, "mail", PLAIN)
    bench.advance(1000)
    bench.promote()


def a_queue_is_deleted_while_a_message_is_scheduled(bench: Bench) -> None:
    bench.send(bench.message("mail", id="a", due=1000))
    bench.delete_queue("mail")
    bench.advance(1000)
    bench.promote()


def a_scheduled_task_is_revoked(bench: Bench) -> None:
    bench.send(bench.message("mail", id="a", due=1000))
    bench.revoke("a")


def a_waiting_task_is_revoked_beside_a_scheduled_one(bench: Bench) -> None:
    bench.send(bench.message("mail", id="a"))
    bench.send(bench.message("mail", id="a", due=1000, keep=False))
    bench.revoke("a")
    bench.check_start(*bench.read("c", "mail"))


def a_revoked_task_hands_its_message_back(bench: Bench) -> None:
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.revoke("a")
    bench.release("c", token)


def a_task_rejects_its_message_again_and_again(bench: Bench) -> None:
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.reject("c", token, 1, 0)
    (token,) = bench.read("c", "mail:returned")
    bench.reject("c", token, 2, 1000)
    bench.advance(1000)
    bench.promote()
    (token,) = bench.read("c", "mail:returned")
    bench.follow("c", followed(token, AT_ONCE, False))
    bench.read("c", "mail")


def a_revoked_task_rejects_its_message(bench: Bench) -> None:
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.revoke("a")
    bench.reject("c", token, 1, 1000)


def a_message_that_waits_after_its_rejection_is_revoked(bench: Bench) -> None:
    bench.reject("c", take(bench, "a"), 4, 1000)
    bench.revoke("a")
    bench.advance(1000)
    bench.promote()


def a_task_ends_that_was_revoked_before_it_showed_itself(bench: Bench) -> None:
    token = take(bench, "a")
    bench.revoke("a")
    bench.settle("c", done(token))


def dead_and_other_consumers_update_a_state(bench: Bench) -> None:
    token = take(bench, "a")
    bench.register("d")
    bench.update_state("c", "a")
    bench.update_state("d", "a")
    bench.recover(RunnerExit(consumer="c", running=(token.place,)))
    bench.update_state("c", "a")


def one_of_two_was_running(bench: Bench) -> None:
    first, _ = take(bench, "a"), take(bench, "b")
    bench.recover(RunnerExit(consumer="c", running=(first.place,)))


def a_quarantined_message_runs_alone(bench: Bench) -> None:
    """It is handed back, then its runner is stopped, and it stays in quarantine; then the next
    runner dies, and is recovered in steps."""
    token = take(bench, "a", fields={"max_deliveries": "1"})
    bench.recover(RunnerExit(consumer="c", blame="suspected", running=(token.place,)))
    bench.register("b")
    (token,) = bench.read("b", "mail:quarantine")
    bench.settle("b", starts=[token])
    bench.release("b", token, early=True)
    for name, blame in (("d", "none"), ("e", "suspected")):
        bench.register(name)
        (token,) = bench.read(name, "mail:quarantine")
        bench.note_sole_task(name, token)
        take(bench, f"beside {name}", name)
        death = RunnerExit(consumer=name, blame=blame, running=None, budget=1)
        while bench.recover(death)[4]:
            pass
    assert list(bench.model.dead["mail"]) == ["a"]


def two_forced_ends_cannot_be_settled_yet(bench: Bench) -> None:
    """Of the messages beside them one was acknowledged early, and one never started."""
    late, early, beside = (take(bench, id) for id in ("a", "b", "c"))
    take(bench, "d")
    bench.settle("c", starts=[early, beside])
    kept = RunnerExit(consumer="c", blame="kept", running=(late.place, early.place), budget=1)
    while bench.recover(kept)[4]:
        pass
    bench.recover(kept)
    bench.renew("c")
    bench.settle("c", ending(late, "FAILURE", False), ending(early, "FAILURE", True))
    bench.recover(RunnerExit(consumer="c", blame="none"))


def a_recovery_in_steps(bench: Bench) -> None:
    """The own supervisor keeps the lease meanwhile; another worker ends it first."""
    for consumer in "cd":
        if consumer == "d":
            bench.register("d")
        for number in range(2):
            take(bench, f"{consumer}{number}", consumer)
        claim = str(bench.model.leases["d"]) if consumer == "d" else ""
        bench.recover(RunnerExit(consumer=consumer, claim=claim, blame="none", budget=1))
        bench.renew(consumer)


def a_revoked_task_is_recovered(bench: Bench) -> None:
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.revoke("a")
    bench.recover(RunnerExit(consumer="c", blame="none", running=(token.place,)))


def a_consumer_without_a_lease_is_listed(bench: Bench) -> None:
    """Another worker has fenced it, and has not moved all that it held."""
    for number in range(2):
        take(bench, f"c{number}")
    claim = str(bench.model.leases["c"])
    bench.recover(RunnerExit(consumer="c", claim=claim, blame="none", budget=1))
    assert bench.list_leases() == set()
    assert bench.list_leases() == set()


def a_message_has_expired_when_it_is_looked_at(bench: Bench) -> None:
    token = take(bench, "a", expires=1000)
    bench.advance(1000)
    bench.check_start(token)


def a_scheduled_message_expires_before_it_is_due(bench: Bench) -> None:
    bench.send(bench.message("mail", id="a", due=5000, expires=1000))
    bench.advance(5000)
    bench.promote()


def a_dead_consumer_goes_on(bench: Bench) -> None:
    token = take(bench, "a")
    bench.recover(RunnerExit(consumer="c", blame="none"))
    bench.mark_started("c", token)
    bench.release("c", token)
    bench.settle("c", done(token))


def a_message_is_settled_twice(bench: Bench) -> None:
    token = take(bench, "a")
    assert bench.settle("c", done(token)) == "1"
    assert bench.settle("c", done(token)) == "0"


def the_first_of_two_copies_ends(bench: Bench) -> None:
    bench.declare_exchange("fan", "fanout")
    for queue in ("left", "right"):
        declare(bench, queue, PLAIN)
    bench.send(bench.message("", exchange="fan", id="a"))
    for queue in ("left", "right"):
        bench.settle("c", done(bench.read("c", queue)[0]))


def a_dead_letter_is_sent_to_no_queue(bench: Bench) -> None:
    declare(bench, "mail", SENT_NOWHERE)
    bench.follow("c", followed(take(bench, "a"), DEAD_LETTER, False))


def a_consumer_is_stopped_while_it_runs_something(bench: Bench) -> None:
    token = take(bench, "a")
    bench.recover(RunnerExit(consumer="c", blame="none", running=(token.place,)))


HISTORIES: tuple[Callable[[Bench], None], ...] = (
    *REUSES,
    a_task_rejects_its_message_again_and_again,
    a_revoked_task_rejects_its_message,
    a_message_that_waits_after_its_rejection_is_revoked,
    a_plain_message_is_sent_again,
    an_id_is_used_again_after_its_window,
    a_message_is_followed_twice,
    the_answer_of_settle_is_lost,
    the_answer_of_follow_is_lost,
    a_revoked_task_ends_without_a_state,
    a_task_is_revoked_while_it_runs_and_tried_again,
    a_revoked_message_is_met,
    an_acknowledged_message_is_handed_back,
    a_queue_is_deleted_before_an_early_message_is_tried_again,
    a_task_is_tried_again_after_its_message_would_be_stale,
    an_id_dies_twice_and_is_sent_on_twice,
    a_dead_letter_goes_in_a_circle,
    more_dead_letters_than_are_kept,
    a_dead_letter_is_retried_after_a_crash,
    a_dead_letter_is_imported_after_it_was_retried,
    two_of_one_id_are_scheduled_and_revoked,
    a_queue_loses_its_levels_while_a_message_is_scheduled,
    a_queue_is_deleted_while_a_message_is_scheduled,
    a_scheduled_task_is_revoked,
    a_waiting_task_is_revoked_beside_a_scheduled_one,
    a_revoked_task_hands_its_message_back,
    a_task_ends_that_was_revoked_before_it_showed_itself,
    dead_and_other_consumers_update_a_state,
    one_of_two_was_running,
    a_quarantined_message_runs_alone,
    two_forced_ends_cannot_be_settled_yet,
    a_recovery_in_steps,
    a_revoked_task_is_recovered,
    a_consumer_without_a_lease_is_listed,
    a_message_has_expired_when_it_is_looked_at,
    a_scheduled_message_expires_before_it_is_due,
    a_dead_consumer_goes_on,
    a_message_is_settled_twice,
    the_first_of_two_copies_ends,
    a_dead_letter_is_sent_to_no_queue,
    a_consumer_is_stopped_while_it_runs_something,
)


def play(server: Any, history: Callable[[Bench], None]) -> None:
    """Play a history, then end everything."""
    bench = bench_for(server)
    history(bench)
    drain(bench, ["c", *(name for name in bench.tokens if name != "c")])
