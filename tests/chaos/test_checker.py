"""The checker of chaos runs: accepts histories without a fault, and detects each violation."""

import json

import pytest

from tests.chaos.checker import RULES, check, events_of, report
from tests.chaos.workload import KINDS, Workload, value_of

CONSUMER = "w1@chaos:100:0123456789abcdef"


class MadeUpHistory:
    """A history made up event by event; each event is 10 ms later."""

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

    def advance(self, seconds):
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
        answers = [[id, entry, meaning, accepted]]
        sent = self.now if sent is None else sent
        self.note("settled", consumer=CONSUMER, sent=sent, answers=answers)

    def record(self, token="", id="a", number=1, **fields):
        found = {"state": "SUCCESS", "result": [value_of(number), token], **fields}
        self.note("record", id=id, **{"error_type": None, "reason": None, **found})

    def run(self, number=1, kind="late", id="a", **more):
        """Add a task without a fault; return the token of its run."""
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
def history():
    return MadeUpHistory()


def test_tasks_that_ran_once_break_no_rule(history):
    for number in range(1, 20):
        history.run(number, id=f"t{number}")

    assert history.broken == set()


def test_an_accepted_task_that_never_ended_is_lost(history):
    history.send()
    history.record(state="QUEUED", result=None)

    assert history.broken == {"lost"}


def test_an_accepted_task_without_a_record_is_lost(history):
    history.send()

    assert history.broken == {"lost"}


def test_a_task_whose_sender_got_no_answer_need_not_exist(history):
    history.note("invoked", number=1, kind="late")
    history.note("unknown", number=1, kind="late", error="away")

    assert history.broken == set()


def test_one_copy_of_a_fan_out_is_not_enough(history):
    history.send(kind="fan")
    token = history.start(kind="fan", id="a@left")
    history.settle(token, "a@left")
    history.record(token, "a@left")

    assert history.broken == {"lost"}


def test_a_run_that_was_never_sent_is_unexpected(history):
    history.run()
    history.start(number=2, id="b")

    assert history.broken == {"unexpected"}


def test_a_run_under_another_id_is_unexpected(history):
    history.run()
    history.start(id="b")

    assert history.broken == {"unexpected"}


def test_two_accepted_settlements_are_double(history):
    first = history.run()
    history.kill()
    second = history.start()
    history.settle(second)

    assert "double" in history.broken
    assert first != second


def test_a_refused_settlement_does_not_count(history):
    history.send()
    fenced = history.start()
    history.kill()
    winner = history.start(pid=200, worker="w2.1")
    history.settle(winner)
    history.settle(fenced, accepted=False)
    history.record(winner)

    assert history.broken == set()


def test_an_early_task_that_starts_again_broke_its_promise(history):
    history.send(kind="early")
    history.start(kind="early")
    history.kill()
    token = history.start(kind="early", pid=200, worker="w2.1")
    history.settle(token)
    history.record(token)

    assert history.broken == {"twice"}


def test_one_entry_runs_once_whatever_happened(history):
    history.send()
    history.start(entry="work 7-0")
    history.kill()
    token = history.start(pid=200, worker="w2.1", entry="work 7-0")
    history.record(token)

    assert history.broken == {"twice"}


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
def test_a_second_run_needs_a_fault_of_the_first_ones_worker(history, fault, excused):
    history.send()
    history.start()
    history.note("fault", fault="some", began=history.now, **fault)
    token = history.start(pid=200, worker="w2.1")
    history.settle(token)
    history.record(token)

    assert history.broken == (set() if excused else {"unexplained"})


@pytest.mark.parametrize(("killed_after", "broken"), [(2.0, set()), (6.0, {"wrong"})])
def test_a_kill_in_the_third_run_explains_its_dead_letter(history, killed_after, broken):
    """The third run is never settled; it ends with the record, 4 seconds after its start."""
    history.send()
    for pid in (100, 200):
        history.start(pid=pid, deliveries=pid // 100, entry=f"work {history.now * 1000:.0f}-0")
        history.kill(pids=[pid])
    history.start(pid=300, deliveries=3, entry=f"work {history.now * 1000:.0f}-0")
    finished = f"{(history.now + 4) * 1000:.0f}"
    history.advance(killed_after)
    history.kill(pids=[300])
    error = {"state": "FAILURE", "result": None, "error_type": "streamq.errors.WorkerLost"}
    history.record(**error, worker="w1@chaos:300:0123", finished=finished)
    history.note("letter", id="a", queue="work", reason="crashed 3 times")

    assert history.broken == broken


def test_a_fault_long_before_a_run_excuses_nothing(history):
    history.kill()
    history.advance(10)
    history.send()
    history.start()
    token = history.start(pid=200, worker="w2.1")
    history.settle(token)
    history.record(token)

    assert history.broken == {"unexplained"}


def test_a_run_after_the_accepted_one_is_not_excused_by_a_fault_of_that_one(history):
    history.send()
    token = history.start()
    history.kill()
    history.settle(token)
    history.start(pid=200, worker="w2.1")
    history.record(token)

    assert history.broken == {"unexplained"}


def test_poison_excuses_what_ran_beside_it(history):
    history.send()
    history.start()
    history.send(2, "poison", "p")
    history.start(2, "poison", "p")
    token = history.start(pid=200, worker="w2.1", deliveries=2)
    history.settle(token)
    history.record(token)
    history.record(
        "", "p", state="FAILURE", result=None, error_type="streamq.errors.WorkerLost",
        worker=CONSUMER,
    )  # fmt: skip

    assert history.broken == set()


def test_a_value_that_the_payload_does_not_make_is_wrong(history):
    history.send()
    token = history.start()
    history.settle(token)
    history.record(token, result=[12345, token])

    assert history.broken == {"wrong"}


def test_the_value_of_a_run_that_was_refused_is_wrong(history):
    history.send()
    fenced = history.start()
    history.kill()
    winner = history.start(pid=200, worker="w2.1")
    history.settle(winner)
    history.record(fenced)

    assert history.broken == {"wrong"}


def test_an_ending_that_its_kind_cannot_have_is_wrong(history):
    history.send()
    token = history.start()
    history.settle(token)
    history.record(state="REVOKED", result=None, reason="expired")

    assert history.broken == {"wrong"}


def test_an_early_task_may_be_lost_with_its_runner_and_only_then(history):
    for id, number in (("a", 1), ("b", 2)):
        history.send(number, "early", id)
        history.record(
            "", id, state="FAILURE", result=None, error_type="streamq.errors.WorkerLost",
            worker=CONSUMER if id == "a" else "w2@chaos:200:0123456789abcdef",
        )  # fmt: skip
    history.kill()

    verdict = check(history.events)
    assert [id for id, _ in verdict.broken["wrong"]] == ["b"]


def test_a_late_task_becomes_a_dead_letter_for_crashes_alone(history):
    history.send()
    history.start()
    history.record(
        state="FAILURE", result=None, error_type="streamq.errors.WorkerLost", worker=CONSUMER
    )
    history.note("letter", id="a", queue="work", reason="crashed 3 times", crashes="3")

    assert history.broken == {"wrong"}


def test_a_crash_that_never_was_is_not_charged(history):
    history.send()
    token = history.start(deliveries=2)
    history.settle(token)
    history.record(token)

    assert history.broken == {"crashes"}


def test_a_consumer_that_was_declared_dead_settles_nothing(history):
    history.send()
    token = history.start()
    history.note("declared dead", consumer=CONSUMER, blame="suspected", costs=[0, 0, 0, 0])
    history.settle(token)
    history.record(token)

    assert history.broken == {"posthumous"}


def test_what_was_sent_before_the_death_may_be_answered_after_it(history):
    history.send()
    token = history.start()
    sent = history.now
    history.note("declared dead", consumer=CONSUMER, blame="suspected", costs=[0, 0, 0, 0])
    history.settle(token, sent=sent)
    history.record(token)

    assert history.broken == set()


def test_a_waiter_must_get_the_result_of_the_record(history):
    token = history.run()
    history.note("reported", number=1, id="a", said=["SUCCESS", [value_of(1), token]])
    assert history.broken == set()

    history.note("reported", number=1, id="a", said=["SUCCESS", [value_of(1), "another"]])
    assert history.broken == {"reported"}


@pytest.mark.parametrize(("pause", "broken"), [(1.0, set()), (6.0, {"slow"})])
def test_work_flows_again_soon_after_an_outage(history, pause, broken):
    history.note("producing", rate=10.0)
    history.run(1, id="before")
    history.note("fault", fault="kill_server", began=history.now, explains="nothing", outage=True)
    history.advance(pause)
    for number in range(2, 30):
        history.run(number, id=f"t{number}")
    history.advance(10)
    history.note("enough")

    assert history.broken == broken


def test_a_complaint_at_the_end_counts(history):
    history.note("complaint", says="work holds 1 message")

    assert history.broken == {"leaks"}


def test_the_verdict_is_one_line_with_every_rule(history):
    history.run()
    verdict = check(history.events)

    line = json.loads(verdict.line(seed=7))
    assert (line["ok"], line["seed"], line["accepted"], line["runs"]) == (True, 7, 1, 1)
    assert {rule.__name__ for rule in RULES} <= set(line)


def test_a_violation_is_reported_with_all_events_of_the_task(history):
    history.run(1, id="good")
    history.send(2, id="bad")
    history.start(2, id="bad")
    history.kill()
    verdict = check(history.events)

    said = "\n".join(report(verdict, history.events))
    assert said.startswith("lost: bad: ")
    whats = [event["what"] for event in events_of(history.events, "bad")]
    assert whats == ["invoked", "accepted", "start", "fault"]
    assert "good" not in said


def test_the_same_seed_makes_the_same_calls():
    def calls(seed):
        workload = Workload(seed, 2.0)
        return [workload.next() for _ in range(500)]

    assert calls(3) == calls(3)
    assert calls(3) != calls(4)
    assert {call.kind for call in calls(3)} >= set(KINDS) - {"poison", "long"}
