"""The checker of chaos runs: it passes what was promised, and sees each way to break it."""

import json

import pytest

from tests.chaos.checker import RULES, check, story, tell
from tests.chaos.workload import KINDS, Workload, value_of

CONSUMER = "w1@chaos:100:0123456789abcdef"


class Tale:
    """Makes up a history, line by line; each line is a moment later."""

    def __init__(self):
        self.events = []
        self.now = 100.0
        self.entries = 0
        self.note("begin", lease=1.0)

    def note(self, what, *, at=None, **facts):
        self.now += 0.01
        event = {"what": what, "at": self.now if at is None else at, **facts}
        self.events.append(event)
        return event

    def pass_by(self, seconds):
        self.now += seconds

    def send(self, number=1, kind="late", id="a"):
        self.note("invoked", number=number, kind=kind)
        self.note("accepted", number=number, kind=kind, id=id)

    def start(self, number=1, kind="late", id="a", *, pid=100, worker="w1.1", **more):
        self.entries += 1
        token = f"{pid} work {self.entries}-0"
        facts = {"entry": f"work {self.entries}-0", "deliveries": 1, "retries": 0, **more}
        self.note(
            "start", number=number, kind=kind, id=id, token=token, pid=pid, worker=worker, **facts
        )
        return token

    def settle(self, token, id="a", meaning="SUCCESS", *, accepted=True, sent=None):
        self.note("end", token=token, how="returned")
        entry = token.partition(" ")[2]
        told = [[id, entry, meaning, accepted]]
        sent = self.now if sent is None else sent
        self.note("settled", consumer=CONSUMER, sent=sent, told=told)

    def record(self, token="", id="a", number=1, **fields):
        found = {"state": "SUCCESS", "result": [value_of(number), token], **fields}
        self.note("record", id=id, **{"error_type": None, "reason": None, **found})

    def run(self, number=1, kind="late", id="a", **more):
        """One task as it should be."""
        self.send(number, kind, id)
        token = self.start(number, kind, id, **more)
        self.settle(token, id)
        self.record(token, id, number)
        return token

    def kill(self, *, worker="w1.1", pids=(100,)):
        self.note("fault", fault="kill_runner", began=self.now, explains="runs", worker=worker,
                  pids=list(pids))  # fmt: skip

    @property
    def broken(self):
        found = check(sorted(self.events, key=lambda event: event["at"])).broken
        return {rule for rule, cases in found.items() if cases}


@pytest.fixture
def tale():
    return Tale()


def test_tasks_that_ran_once_break_no_rule(tale):
    for number in range(1, 20):
        tale.run(number, id=f"t{number}")

    assert tale.broken == set()


def test_an_accepted_task_that_never_ended_is_lost(tale):
    tale.send()
    tale.record(state="QUEUED", result=None)

    assert tale.broken == {"lost"}


def test_an_accepted_task_without_a_record_is_lost(tale):
    tale.send()

    assert tale.broken == {"lost"}


def test_a_task_whose_sender_was_told_nothing_need_not_exist(tale):
    tale.note("invoked", number=1, kind="late")
    tale.note("unknown", number=1, kind="late", error="away")

    assert tale.broken == set()


def test_one_copy_of_a_fan_out_is_not_enough(tale):
    tale.send(kind="fan")
    token = tale.start(kind="fan", id="a@left")
    tale.settle(token, "a@left")
    tale.record(token, "a@left")

    assert tale.broken == {"lost"}


def test_what_nobody_sent_is_unexpected(tale):
    tale.run()
    tale.start(number=2, id="b")

    assert tale.broken == {"unexpected"}


def test_a_run_under_another_id_is_unexpected(tale):
    tale.run()
    tale.start(id="b")

    assert tale.broken == {"unexpected"}


def test_two_accepted_settlements_are_double(tale):
    first = tale.run()
    tale.kill()
    second = tale.start()
    tale.settle(second)

    assert "double" in tale.broken
    assert first != second


def test_a_settlement_that_was_refused_is_none(tale):
    tale.send()
    zombie = tale.start()
    tale.kill()
    winner = tale.start(pid=200, worker="w2.1")
    tale.settle(winner)
    tale.settle(zombie, accepted=False)
    tale.record(winner)

    assert tale.broken == set()


def test_an_early_task_that_starts_again_broke_its_promise(tale):
    tale.send(kind="early")
    tale.start(kind="early")
    tale.kill()
    token = tale.start(kind="early", pid=200, worker="w2.1")
    tale.settle(token)
    tale.record(token)

    assert tale.broken == {"twice"}


def test_one_entry_runs_once_whatever_happened(tale):
    tale.send()
    tale.start(entry="work 7-0")
    tale.kill()
    token = tale.start(pid=200, worker="w2.1", entry="work 7-0")
    tale.record(token)

    assert tale.broken == {"twice"}


@pytest.mark.parametrize(
    ("fault", "excused"),
    [
        ({"explains": "runs", "worker": "w1.1", "pids": [100]}, True),
        ({"explains": "runs", "worker": "w1.1", "pids": None}, True),
        ({"explains": "all"}, True),
        ({"explains": "runs", "worker": "w1.1", "pids": [101]}, False),
        ({"explains": "runs", "worker": "w1.2", "pids": None}, False),
        ({"explains": "nothing"}, False),
    ],
)
def test_a_second_run_needs_a_fault_of_the_first_ones_worker(tale, fault, excused):
    tale.send()
    tale.start()
    tale.note("fault", fault="some", began=tale.now, **fault)
    token = tale.start(pid=200, worker="w2.1")
    tale.settle(token)
    tale.record(token)

    assert tale.broken == (set() if excused else {"unexplained"})


def test_a_fault_long_before_a_run_excuses_nothing(tale):
    tale.kill()
    tale.pass_by(10)
    tale.send()
    tale.start()
    token = tale.start(pid=200, worker="w2.1")
    tale.settle(token)
    tale.record(token)

    assert tale.broken == {"unexplained"}


def test_a_run_after_the_accepted_one_is_not_excused_by_a_fault_of_that_one(tale):
    tale.send()
    token = tale.start()
    tale.kill()
    tale.settle(token)
    tale.start(pid=200, worker="w2.1")
    tale.record(token)

    assert tale.broken == {"unexplained"}


def test_poison_excuses_what_ran_beside_it(tale):
    tale.send()
    tale.start()
    tale.send(2, "poison", "p")
    tale.start(2, "poison", "p")
    token = tale.start(pid=200, worker="w2.1", deliveries=2)
    tale.settle(token)
    tale.record(token)
    tale.record(
        "", "p", state="FAILURE", result=None, error_type="streamq.errors.WorkerLost",
        worker=CONSUMER,
    )  # fmt: skip

    assert tale.broken == set()


def test_a_value_that_the_payload_does_not_make_is_wrong(tale):
    tale.send()
    token = tale.start()
    tale.settle(token)
    tale.record(token, result=[12345, token])

    assert tale.broken == {"wrong"}


def test_the_value_of_a_run_that_was_refused_is_wrong(tale):
    tale.send()
    zombie = tale.start()
    tale.kill()
    winner = tale.start(pid=200, worker="w2.1")
    tale.settle(winner)
    tale.record(zombie)

    assert tale.broken == {"wrong"}


def test_an_ending_that_its_kind_cannot_have_is_wrong(tale):
    tale.send()
    token = tale.start()
    tale.settle(token)
    tale.record(state="REVOKED", result=None, reason="expired")

    assert tale.broken == {"wrong"}


def test_an_early_task_may_be_lost_with_its_runner_and_only_then(tale):
    for id, number in (("a", 1), ("b", 2)):
        tale.send(number, "early", id)
        tale.record(
            "", id, state="FAILURE", result=None, error_type="streamq.errors.WorkerLost",
            worker=CONSUMER if id == "a" else "w2@chaos:200:0123456789abcdef",
        )  # fmt: skip
    tale.kill()

    verdict = check(tale.events)
    assert [id for id, _ in verdict.broken["wrong"]] == ["b"]


def test_a_late_task_is_condemned_for_crashes_alone(tale):
    tale.send()
    tale.start()
    tale.record(
        state="FAILURE", result=None, error_type="streamq.errors.WorkerLost", worker=CONSUMER
    )
    tale.note("letter", id="a", queue="work", reason="crashed 3 times", crashes="3")

    assert tale.broken == {"wrong"}


def test_a_crash_that_never_was_is_not_charged(tale):
    tale.send()
    token = tale.start(deliveries=2)
    tale.settle(token)
    tale.record(token)

    assert tale.broken == {"crashes"}


def test_the_dead_settle_nothing(tale):
    tale.send()
    token = tale.start()
    tale.note("declared dead", consumer=CONSUMER, charge="suspects", costs=[0, 0, 0, 0])
    tale.settle(token)
    tale.record(token)

    assert tale.broken == {"posthumous"}


def test_what_was_sent_before_the_death_may_be_answered_after_it(tale):
    tale.send()
    token = tale.start()
    sent = tale.now
    tale.note("declared dead", consumer=CONSUMER, charge="suspects", costs=[0, 0, 0, 0])
    tale.settle(token, sent=sent)
    tale.record(token)

    assert tale.broken == set()


def test_who_waited_must_have_been_told_what_is_kept(tale):
    token = tale.run()
    tale.note("told", number=1, id="a", said=["SUCCESS", [value_of(1), token]])
    assert tale.broken == set()

    tale.note("told", number=1, id="a", said=["SUCCESS", [value_of(1), "another"]])
    assert tale.broken == {"told"}


@pytest.mark.parametrize(("pause", "broken"), [(1.0, set()), (6.0, {"slow"})])
def test_work_flows_again_soon_after_an_outage(tale, pause, broken):
    tale.note("producing", rate=10.0)
    tale.run(1, id="before")
    tale.note("fault", fault="kill_server", began=tale.now, explains="nothing", outage=True)
    tale.pass_by(pause)
    for number in range(2, 30):
        tale.run(number, id=f"t{number}")
    tale.pass_by(10)
    tale.note("enough")

    assert tale.broken == broken


def test_a_complaint_at_the_end_counts(tale):
    tale.note("complaint", says="work holds 1 message")

    assert tale.broken == {"unrest"}


def test_the_verdict_is_one_line_with_every_rule(tale):
    tale.run()
    verdict = check(tale.events)

    line = json.loads(verdict.line(seed=7))
    assert (line["ok"], line["seed"], line["accepted"], line["runs"]) == (True, 7, 1, 1)
    assert {rule.__name__ for rule in RULES} <= set(line)


def test_what_broke_is_told_with_the_whole_story_of_the_task(tale):
    tale.run(1, id="good")
    tale.send(2, id="bad")
    tale.start(2, id="bad")
    tale.kill()
    verdict = check(tale.events)

    said = "\n".join(tell(verdict, tale.events))
    assert said.startswith("lost: bad: ")
    whats = [event["what"] for event in story(tale.events, "bad")]
    assert whats == ["invoked", "accepted", "start", "fault"]
    assert "good" not in said


def test_the_same_seed_makes_the_same_calls():
    def calls(seed):
        workload = Workload(seed, 2.0)
        return [workload.next() for _ in range(500)]

    assert calls(3) == calls(3)
    assert calls(3) != calls(4)
    assert {call.kind for call in calls(3)} >= set(KINDS) - {"poison", "long"}
