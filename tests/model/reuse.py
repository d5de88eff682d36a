"""Histories of ids that are used again, which seldom happen by chance."""

from collections.abc import Callable

from tests.model.bench import Bench
from tests.model.broker import RunnerExit
from tests.model.ends import ending, followed
from tests.model.profiles import PLAIN, SENT_ON
from tests.model.steps import AT_ONCE, DEAD_LETTER, declare, done, take
from tests.model.values import HOUR, Token


def two_of_one_id(bench: Bench, id: str = "u") -> tuple[Token, Token]:
    """Two messages of one id that `c` holds; the older one was revoked while it seemed to wait."""
    older = take(bench, id, window="none")
    bench.revoke(id)
    return older, take(bench, id, window="none")


def an_id_in_use_is_sent_again(bench: Bench) -> None:
    token = take(bench, "u", window="none")
    for verb in (lambda: None, lambda: bench.mark_started("c", token)):
        verb()
        bench.send(bench.message("mail", id="u", window="none"))
    assert not bench.read("c", "mail")


def an_id_is_sent_again_within_its_window(bench: Bench) -> None:
    bench.settle("c", done(take(bench, "u", window=1000)))
    bench.send(bench.message("mail", id="u", window=1000))
    assert not bench.read("c", "mail")


def a_fan_out_is_used_again(bench: Bench) -> None:
    bench.declare_exchange("fan", "fanout")
    for queue in ("left", "right"):
        declare(bench, queue, PLAIN)
    for _ in range(2):
        for queue in ("left", "right"):
            bench.send(bench.message("", exchange="fan", id="u", window="none"))
            for token in bench.read("c", queue, 9):
                bench.settle("c", done(token))


def an_id_is_used_again_without_a_record(bench: Bench) -> None:
    for keep in (True, False, True):
        bench.settle("c", done(take(bench, "u", window="none", keep=keep)))


def what_was_revoked_is_sent_again(bench: Bench) -> None:
    for keep in (True, False, False):
        bench.send(bench.message("mail", id="u", window="none", keep=keep))
        bench.revoke("u")
    bench.check_start(*bench.read("c", "mail", 9))


def all_without_a_record_are_revoked(bench: Bench) -> None:
    bench.send(bench.message("mail", id="u", window="none", keep=False))
    bench.revoke("u")
    bench.send(bench.message("mail", id="u", window="none", keep=False))
    bench.advance(HOUR)
    bench.revoke("u", "SIGTERM")


def the_older_of_two_goes_on(bench: Bench) -> None:
    older, newer = two_of_one_id(bench)
    bench.mark_started("c", older)
    for name in (older.name, newer.name):
        bench.update_state("c", name)
    bench.mark_started("c", older, newer)
    bench.release("c", older)
    (older,) = bench.read("c", "mail:returned")
    bench.follow("c", followed(older, AT_ONCE, False))
    (older,) = bench.read("c", "mail")
    bench.settle("c", starts=[older])
    bench.recover(RunnerExit(consumer="c", blame="none"))
    bench.register("d")
    bench.settle("d", done(bench.read("d", "mail:returned")[0]))


def a_task_that_runs_is_forgotten_and_sent_again(bench: Bench) -> None:
    older = take(bench, "u", window="none")
    bench.mark_started("c", older)
    bench.forget_result("u")
    newer = take(bench, "u", window="none")
    bench.settle("c", done(older), done(newer))


def the_record_of_the_newer_one_is_forgotten(bench: Bench) -> None:
    older, newer = two_of_one_id(bench)
    bench.forget_result("u")
    bench.settle("c", done(newer), done(older))


def what_was_revoked_ends_after_it_is_sent_again(bench: Bench) -> None:
    older, newer = two_of_one_id(bench)
    bench.settle("c", done(older), done(newer))


def a_dead_letter_is_sent_on_and_its_id_fanned_out(bench: Bench) -> None:
    declare(bench, "mail", SENT_ON)
    bench.follow("c", followed(take(bench, "u", window="none"), DEAD_LETTER, False))
    bench.declare_exchange("fan", "fanout")
    for queue in ("left", "right"):
        declare(bench, queue, PLAIN)
    bench.send(bench.message("", exchange="fan", id="u", window="none"))
    bench.settle("c", done(bench.read("c", "morgue")[0]))


def both_are_scheduled_and_one_is_revoked(bench: Bench) -> None:
    older, newer = two_of_one_id(bench)
    for token, pause in ((older, "+1000"), (newer, "+2000")):
        bench.follow("c", followed(token, ("later", pause, "", "retries", "1"), False))
    bench.revoke("u")
    bench.advance(5000)
    bench.promote()


def two_of_before_are_scheduled_and_a_third_is_revoked(bench: Bench) -> None:
    """The two have no record, so they have one number, and the second takes the next place."""
    tokens = [take(bench, "u", window="none", keep=False) for _ in range(2)]
    two_of_one_id(bench)
    for token in tokens:
        bench.follow("c", followed(token, ("later", "+1000", "", "retries", "1"), False))
    bench.revoke("u")


def a_dead_letter_whose_id_is_in_use_is_retried(bench: Bench) -> None:
    bench.follow("c", followed(take(bench, "u", window="none"), DEAD_LETTER, False))
    newer = take(bench, "u", window="none")
    assert bench.retry_dead("mail", "u") == "INUSE QUEUED"
    bench.settle("c", done(newer))
    assert bench.retry_dead("mail", "u") == 1


def by_hand(bench: Bench) -> Token:
    """A message that a person sends under the id of a task that was revoked while it ran."""
    token = take(bench, "a")
    bench.mark_started("c", token)
    bench.revoke("a")
    bench.settle("c", done(token))
    return take(bench, "a", keep=False)


def a_message_by_hand_is_tried_again(bench: Bench) -> None:
    bench.follow("c", followed(by_hand(bench), AT_ONCE, False))


def a_message_by_hand_is_recovered(bench: Bench) -> None:
    token = by_hand(bench)
    bench.recover(RunnerExit(consumer="c", blame="none", running=(token.place,)))


def a_task_that_is_awaited_ends_without_a_state(bench: Bench) -> None:
    token = take(bench, "a")
    bench.await_result("a", "w0")
    bench.settle("c", ending(token, "left", False))
    bench.await_result("a", "w1")


REUSES: tuple[Callable[[Bench], None], ...] = (
    an_id_in_use_is_sent_again,
    an_id_is_sent_again_within_its_window,
    a_fan_out_is_used_again,
    an_id_is_used_again_without_a_record,
    what_was_revoked_is_sent_again,
    all_without_a_record_are_revoked,
    the_older_of_two_goes_on,
    a_task_that_runs_is_forgotten_and_sent_again,
    the_record_of_the_newer_one_is_forgotten,
    what_was_revoked_ends_after_it_is_sent_again,
    a_dead_letter_is_sent_on_and_its_id_fanned_out,
    both_are_scheduled_and_one_is_revoked,
    two_of_before_are_scheduled_and_a_third_is_revoked,
    a_dead_letter_whose_id_is_in_use_is_retried,
    a_message_by_hand_is_tried_again,
    a_message_by_hand_is_recovered,
    a_task_that_is_awaited_ends_without_a_state,
)
