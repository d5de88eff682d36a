"""Mutants that chance finds too seldom, and what must happen for each to show."""

from collections.abc import Callable

from tests.model import histories, reuse
from tests.model.bench import Bench

DIRECTED: dict[str, Callable[[Bench], None]] = {
    "a lane forgets what it pushed": histories.a_push_is_sent_again,
    "a revoked task is rejected": histories.a_revoked_task_rejects_its_message,
    "what was rejected goes to the end": histories.a_task_rejects_its_message_again_and_again,
    "what is rejected is kept twice": histories.a_task_rejects_its_message_again_and_again,
    "an id that is used again is the one of before": histories.an_id_is_used_again_after_its_window,
    "a generation tells how the one before ended": histories.an_id_is_used_again_after_its_window,
    "an id whose task has not ended is accepted again": reuse.an_id_in_use_is_sent_again,
    "a fan-out has ended with its first copy": reuse.a_fan_out_is_used_again,
    "a fan-out never ends": reuse.a_fan_out_is_used_again,
    "a generation without a record keeps that of before": (
        reuse.an_id_is_used_again_without_a_record
    ),
    "a revocation stops what is sent later": reuse.what_was_revoked_is_sent_again,
    "two of one number wait for their moments": (
        reuse.one_is_for_later_without_a_record_and_one_with
    ),
    "a chosen id is forgotten": reuse.an_id_is_sent_again_within_its_window,
    "what another generation did counts": reuse.the_older_of_two_goes_its_way,
    "the end of another generation is written": reuse.the_older_of_two_goes_its_way,
    "an end without a record has no number": reuse.the_record_of_the_newer_one_is_forgotten,
    "the revocation of another is not met": reuse.what_was_revoked_ends_after_it_is_sent_again,
    "a copy of another fan-out counts": reuse.a_letter_is_sent_on_and_its_id_fanned_out,
    "another generation shows that it runs": reuse.the_older_of_two_goes_its_way,
    "another generation tells where it stands": reuse.the_older_of_two_goes_its_way,
    "revoking takes another from its place": (
        reuse.two_of_before_are_for_later_and_a_third_is_revoked
    ),
    "revoking without a record means only the last": (reuse.all_without_a_record_are_revoked),
    "what is forgotten has no number": reuse.a_task_that_runs_is_forgotten_and_sent_again,
    "a number without a record is forgotten": reuse.all_without_a_record_are_revoked,
    "what is for later is called by its id": reuse.both_are_for_later_and_one_is_revoked,
    "a letter is put back beside its id": reuse.a_letter_whose_id_is_in_use_is_put_back,
    "a letter is put back as the one of before": histories.a_letter_is_revived_after_a_crash,
    "a message by hand ends with the one of before": reuse.a_message_by_hand_is_tried_again,
    "a task of before is revoked for ever": reuse.a_message_by_hand_is_recovered,
    "nobody is told of an end without a word": reuse.a_task_that_is_awaited_ends_without_a_word,
    "take asks nobody": histories.a_message_is_settled_twice,
    "complete forgets its number": histories.the_answer_of_complete_is_lost,
    "settle forgets its number": histories.the_answer_of_settle_is_lost,
    "an end is touched": histories.a_revoked_task_ends_without_a_word,
    "a revoked task is tried again": histories.a_task_is_revoked_while_it_runs_and_tried_again,
    "a retry is stale": histories.a_task_is_tried_again_after_its_message_would_be_stale,
    "a revocation stays": histories.a_revoked_message_is_met,
    "a retry ends in no queue": histories.a_queue_is_deleted_before_an_early_message_is_tried_again,
    "a letter's end is overwritten": histories.an_id_dies_twice_and_is_sent_on_twice,
    "a circle of letters": histories.a_letter_goes_in_a_circle,
    "letters are not bounded": histories.more_letters_than_are_kept,
    "a letter is revived and stays": histories.a_letter_is_revived_after_a_crash,
    "a letter is revived with its crashes": histories.a_letter_is_revived_after_a_crash,
    "a letter comes twice": histories.a_letter_is_imported_after_it_was_revived,
    "it comes where nobody looks": histories.a_queue_loses_its_levels_while_a_message_is_for_later,
    "it comes to no queue": histories.a_queue_is_deleted_while_a_message_is_for_later,
    "a second one takes its place": histories.two_of_one_id_are_for_later_and_revoked,
    "neighbours are charged": histories.one_of_two_was_running,
    "a suspect goes to the others": histories.a_suspect_runs_alone,
    "who was alone is forgotten": histories.a_suspect_runs_alone,
    "a revocation is forgotten": histories.a_message_that_waits_after_its_rejection_is_revoked,
    "a revoked task stays for later": histories.a_task_for_later_is_revoked,
    "a waiting task is not revoked beside one for later": (
        histories.a_waiting_task_is_revoked_beside_one_for_later
    ),
    "what goes back keeps its mark": histories.what_was_acknowledged_goes_back,
    "what goes back has no queue": histories.what_was_acknowledged_goes_back,
    "a revoked task waits again": histories.a_revoked_task_gives_its_message_back,
    "a revocation that was met stays": (
        histories.a_task_ends_that_was_revoked_before_it_showed_itself
    ),
    "the dead tell where a task stands": histories.the_dead_and_others_tell_where_a_task_stands,
    "others tell where a task stands": histories.the_dead_and_others_tell_where_a_task_stands,
    "who may live is not fenced first": histories.a_recovery_in_steps,
    "its supervisor gives up a lease": histories.a_recovery_in_steps,
    "what is to be settled moves": histories.two_verdicts_cannot_be_settled_yet,
    "what is to be settled is lost": histories.two_verdicts_cannot_be_settled_yet,
    "what is to be settled has no consumer": histories.two_verdicts_cannot_be_settled_yet,
    "what is to be settled has no lease": histories.two_verdicts_cannot_be_settled_yet,
    "a revoked task is handed back": histories.a_revoked_task_is_recovered,
    "an orphan is named at once": histories.somebody_without_a_lease_is_seen,
    "screen sees no expiry": histories.a_message_has_expired_when_it_is_looked_at,
    "it comes although expired": histories.a_message_for_later_expires_before_it_is_due,
    "the dead show what they start": histories.the_dead_go_on,
    "the dead hand back": histories.the_dead_go_on,
    "the dead settle": histories.the_dead_go_on,
    "complete asks nobody": histories.a_message_is_completed_twice,
    "a base expires early": histories.the_first_of_two_copies_ends,
    "what is buried is dropped": histories.a_letter_is_sent_to_nobody,
    "screen sees no revocation": histories.a_waiting_task_is_revoked_beside_one_for_later,
    "an end is overwritten": histories.a_task_ends_that_was_revoked_before_it_showed_itself,
    "who was stopped is charged": histories.a_consumer_is_stopped_while_it_runs_something,
    "a lost lease is given back": histories.a_recovery_in_steps,
}
