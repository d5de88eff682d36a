"""Schedules as a supervisor fires them, and as the API changes them, on a server."""

import logging
import math
from datetime import UTC, datetime

import pytest

from streamq import at, cron, crontab, every
from streamq.broker.leases import Renewal
from streamq.broker.schedules import PORTION, Declaration
from streamq.errors import ConfigError, SignatureInvalid
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.replies import WrongType
from streamq.worker.services.scheduler import LONGEST_GATHER, STEP
from streamq.worker.services.undeclared import SETTLED

HOUR = 3_600_000


@pytest.fixture
def add(app):
    @app.task(name="add")
    def add(x, y):
        return x + y

    return add


def make_due(app, redis, name, moment):
    """Let the next moment of a schedule be this one (ms), which has passed."""
    redis.zadd(app.broker.keys.schedules, {name: moment})


def sent(app, redis, queue="default"):
    return [fields for _, fields in redis.xrange(app.broker.keys.queue(queue))]


def daily(app, name="nightly"):
    """A schedule that is not due during a test, and its moment of yesterday, in ms."""
    app.schedule(name, "add", every("24h"), (1, 2))
    return int(clock.time()) // 86_400 * 86_400_000


def test_two_supervisors_send_a_moment_once(app, add, redis, supervisor):
    moment = daily(app)
    one, other = supervisor(app), supervisor(app, place=1)
    make_due(app, redis, "nightly", moment)
    for each in (one, other):
        each.refresh()

    one.run()
    other.run()

    (message,) = sent(app, redis)
    assert message["id"] == f"nightly-{datetime.fromtimestamp(moment / 1000, UTC):%Y%m%dT%H%M%S}Z"
    assert message["tick"] == str(moment)
    assert message["args"] == "[1,2]"
    assert redis.zscore(app.broker.keys.schedules, "nightly") == moment + 24 * HOUR
    assert one.watched["nightly"].due == other.watched["nightly"].due == moment + 24 * HOUR


def test_who_comes_later_in_the_order_of_names_waits_longer(app, add, supervisor, monkeypatch):
    app.schedule("soon", add, every("10s"), (1, 2))
    service, now = supervisor(app), clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    moments = []
    for place in (0, 2, 1000):
        service.place = place
        service.reckon()
        moments.append(service.moment)

    assert moments[1] - moments[0] == pytest.approx(2 * STEP)
    assert moments[2] - moments[0] == pytest.approx(0.5)
    service.run()
    assert service.moment >= now + LONGEST_GATHER


@pytest.fixture
def trips(monkeypatch):
    """How often Redis is asked and answers: commands that are sent together count once."""
    counted, run = [], Client.run

    def counting(client, act):
        counted.append(act)
        return run(client, act)

    monkeypatch.setattr(Client, "run", counting)
    return counted


def commands(redis):
    """How many commands the server has executed, also within scripts."""
    return redis.info("stats")["total_commands_processed"]


def test_a_thousand_schedules_are_declared_in_a_few_calls(app, add, supervisor, trips):
    for number in range(1000):
        app.schedule(f"each-{number}", add, every("24h"), (number, 0))
    service = supervisor(app)

    reading = ["its time, twice", "moments, twice", "standings", "workers"]
    assert len(trips) <= 1000 // PORTION + len(reading) + 2
    assert len(service.watched) == 1000
    assert all(each.due for each in service.watched.values())


def test_an_app_without_schedules_asks_once_and_never_again(app, add, redis, supervisor, trips):
    began = len(trips)
    service = supervisor(app)
    assert len(trips) - began <= 1 + 1, "the fixture asks for the time"

    before = commands(redis)
    for _ in range(3):
        service.on_renewal(renewal("", None))
        service.on_notice(["terminate", "SIGTERM", "id"])

    assert service.due() == math.inf
    assert commands(redis) - before == 1, "ours"
    service.on_notice(["schedules"])
    assert service.due() < math.inf, "the first one is told of"


def test_what_a_broken_connection_has_lost_is_read_again(app, add, supervisor):
    app.schedule("known", add, every("24h"), (1, 2))
    service = supervisor(app)
    app.schedules.pause("known")
    assert service.due() > clock.monotonic()

    service.on_disconnect()
    assert service.moment <= clock.monotonic()
    service.run()

    assert service.watched["known"].due is None


def test_a_renewal_tells_what_a_lost_notice_did_not(app, add, supervisor):
    app.schedule("known", add, every("30s"), (1, 2))
    service = supervisor(app)
    app.schedules.add("added", "add", every("1s"), (1, 2))
    assert "added" not in service.watched

    service.on_renewal(renewal("known", service.watched["known"].due))
    assert service.moment > clock.monotonic()
    service.on_renewal(renewal("added", 1))
    service.run()

    assert "added" in service.watched


def renewal(schedule, due):
    return Renewal(
        **{"sent": 0.0, "received": 0.0, "now": 0.0, "due": None, "terminating": 0},
        **dict.fromkeys(("consumers", "fenced", "quarantine"), frozenset()),
        **{"schedule": schedule, "schedule_due": due},
    )


def test_what_was_missed_is_told_to_the_task(app, add, redis, supervisor):
    service, moment = (daily(app), supervisor(app))[::-1]
    make_due(app, redis, "nightly", moment - 48 * HOUR)
    service.refresh()

    service.run()

    (message,) = sent(app, redis)
    assert (message["tick"], message["missed"]) == (str(moment), "2")
    assert redis.hget(app.broker.keys.schedule("nightly"), "missed") == "2"


def test_older_code_stands_back(make_app, redis, supervisor, caplog):
    apps = [make_app(), make_app()]
    for app, text in zip(apps, ("0 0 1 1 *", "0 0 2 1 *"), strict=True):
        app.schedule("yearly", "add", cron(text))
    old, new = map(supervisor, apps)
    make_due(apps[0], redis, "yearly", 1000)
    for service in (old, new):
        service.watched["yearly"].due = 1000

    old.run()
    assert sent(apps[0], redis) == []
    assert old.refresh_at <= clock.monotonic()
    old.run()
    assert old.watched["yearly"].stands_back
    new.run()
    assert len(sent(apps[0], redis)) == 1

    with caplog.at_level(logging.WARNING, logger="streamq.worker"):
        supervisor(apps[0])
    assert "'0 0 1 1 *') replaces cron('0 0 2 1 *'), which had replaced it" in caplog.text


def test_a_message_that_leads_nowhere_declares_its_queue(app, add, redis, supervisor):
    app.schedule("there", "add", every("24h"), (1, 2), queue="new")
    service = supervisor(app)
    make_due(app, redis, "there", 86_400_000)
    service.refresh()

    service.run()

    assert len(sent(app, redis, "new")) == 1


def test_one_that_fails_keeps_no_other_from_its_moment(app, add, redis, supervisor, caplog):
    class Broken:
        def next_after(self, moment):
            if moment.year < 2000:
                raise ValueError("no idea")
            return datetime(2100, 1, 1, tzinfo=UTC)

        def __repr__(self):
            return "broken"

    app.schedule("broken", "add", Broken(), (1, 2))
    daily(app)
    service = supervisor(app)
    for name in ("broken", "nightly"):
        make_due(app, redis, name, 86_400_000)
    service.refresh()

    service.run()

    assert [message["id"][:7] for message in sent(app, redis)] == ["nightly"]
    assert "next_after failed: ValueError('no idea')" in caplog.text


def test_lost_schedules_are_declared_again(app, add, redis, supervisor):
    moment = daily(app)
    service = supervisor(app)
    redis.flushall()

    service.refresh()

    assert redis.zscore(app.broker.keys.schedules, "nightly") == moment + 24 * HOUR


class Test_without_code:
    def test_any_supervisor_fires_it(self, make_app, redis, supervisor):
        mine, other = make_app(), make_app()
        mine.schedules.add("ping", "shop.ping", every("24h"), (1,), {"b": 2}, queue="default")
        mine.broker.topology.declare([])
        service = supervisor(other)
        make_due(mine, redis, "ping", 86_400_000)
        service.refresh()

        service.run()

        (message,) = sent(mine, redis)
        assert (message["task"], message["args"], message["kwargs"]) == (
            *("shop.ping", "[1]", '{"b":2}'),
        )
        assert mine.schedules.run("ping").state == "QUEUED"
        assert mine.schedules.remove("ping")
        service.refresh()
        assert service.watched == {}

    def test_signed_messages_need_a_signed_declaration(self, make_app, redis, supervisor, caplog):
        keys = {"signing": "required", "signing_keys": f"k1:{'x' * 32}"}
        plain, signed = make_app(), make_app(**keys)
        plain.schedules.add("bad", "shop.ping", every("24h"))
        signed.schedules.add("good", "shop.ping", every("24h"), expires=60)
        service = supervisor(signed)

        assert list(service.watched) == ["good"]
        assert "schedule bad cannot be fired: the message is not signed" in caplog.text
        make_due(signed, redis, "good", 86_400_000)
        service.refresh()
        service.run()
        (message,) = sent(signed, redis)
        fields = {name.encode(): value.encode() for name, value in message.items()}
        assert signed.signer.check(message["id"].encode(), b"default", fields)

        redis.hset(signed.broker.keys.schedule("good"), "task", "shop.evil")
        redis.hset(signed.broker.keys.schedule("good"), "revision", "other")
        service.refresh()
        service.refresh()
        assert service.watched == {}

    def test_none_is_run_by_hand_that_is_not_signed(self, make_app, redis):
        app = make_app(signing="required", signing_keys=f"k1:{'x' * 32}")
        app.schedules.add("good", "shop.ping", every("24h"))
        assert app.schedules.run("good").state == "QUEUED"

        key = app.broker.keys.schedule("good")
        message = redis.hget(key, "message").replace("shop.ping", "shop.evil")
        redis.hset(key, "message", message)

        with pytest.raises(SignatureInvalid):
            app.schedules.run("good")
        assert [message["task"] for message in sent(app, redis)] == ["shop.ping"]

    def test_what_cannot_be_run_by_hand_says_why(self, app, make_app, add, redis, supervisor):
        coded = make_app()
        coded.schedule("coded", "add", every("24h"), (1, 2))
        supervisor(coded)
        app.schedules.add("damaged", "shop.ping", every("24h"))
        redis.hset(app.broker.keys.schedule("damaged"), "message", "{{{")

        with pytest.raises(ConfigError, match="only the code knows what schedule coded calls"):
            app.schedules.run("coded")
        with pytest.raises(ConfigError, match="schedule damaged: its message in Redis cannot be"):
            app.schedules.run("damaged")

    def test_what_is_wrong_is_told_when_it_is_added(self, app, add):
        class Mine:
            def next_after(self, moment):
                return None

        app.schedule("coded", add, every("1h"))
        app.schedules.store.declare([])
        for wrong, words in (
            (lambda: app.schedules.add("x", "t", Mine()), "only code can have moments"),
            (lambda: app.schedules.add("x", "t", "soon"), "not a duration"),
            (lambda: app.schedules.add("x", "t", every("1h"), countdwn=3), "countdown"),
            (lambda: app.schedules.add("x", "t", every("1h"), eta=3), "eta"),
            (lambda: app.schedules.add("a:b", "t", every("1h")), "schedule name"),
            (lambda: app.schedules.add("x", "t", every("1h"), overlap="skip", ignore_result=True),
             "needs results"),
            (lambda: app.schedules.run("nothing"), "no schedule of this app is named nothing"),
        ):  # fmt: skip
            with pytest.raises(ConfigError, match=words):
                wrong()


# Keys in which somebody else has put something, straight at Redis


def spoil(app, redis, key):
    """Put a value of another type into a key."""
    redis.delete(key)
    redis.set(key, "x")
    redis.publish(app.broker.keys.notices, "schedules")


@pytest.mark.parametrize("name", ["coded", "added"])
def test_a_key_of_another_type_keeps_no_other_schedule_from_its_moment(
    app, add, redis, supervisor, caplog, name
):
    moment = daily(app)
    app.schedule("coded", "add", every("24h"), (1, 2))
    app.schedules.add("added", "add", every("24h"), (1, 2))
    spoil(app, redis, app.broker.keys.schedule(name))
    redis.zadd(app.broker.keys.schedules, {name: 1000})

    service = supervisor(app)
    app.schedules.add("later", "add", every("24h"), (1, 2))
    for _ in range(2):
        make_due(app, redis, "nightly", moment)
        make_due(app, redis, "later", moment)
        service.refresh()
        service.run()

    assert {message["id"][:5] for message in sent(app, redis)} == {"night", "later"}
    assert caplog.text.count(f"schedule {name} cannot be fired: ") == 1
    assert f"schedule:{name} holds something that is not streamq's" in caplog.text
    app.schedules.declared.clear()
    with pytest.raises(WrongType, match=f"schedule:{name} holds"):
        app.schedules.run(name)
    wrong = [each for each in app.schedules.stored() if each.wrong]
    assert [each.name for each in wrong] == [name]
    assert app.schedules.remove(name)
    assert redis.exists(app.broker.keys.schedule(name)) == 0


def test_a_schedule_is_declared_again_when_its_key_has_been_removed(app, add, redis, supervisor):
    app.schedule("coded", "add", every("24h"), (1, 2))
    service = supervisor(app)
    key = app.broker.keys.schedule("coded")
    spoil(app, redis, key)
    service.refresh()
    assert redis.get(key) == "x"

    redis.delete(key)
    service.refresh()

    assert redis.hget(key, "task") == "add"
    assert not service.watched["coded"].stands_back


@pytest.mark.parametrize("how", ["found by a worker", "found by one that starts", "paused"])
def test_a_moment_that_has_been_lost_is_set_again(app, make_app, redis, supervisor, how):
    moment = daily(app)
    service, key = supervisor(app), app.broker.keys.schedules
    if how == "paused":
        app.schedules.pause("nightly")
    redis.delete(key)

    if how == "found by one that starts":
        again = make_app()
        daily(again)
        supervisor(again)
    else:
        service.refresh()

    expected = float("inf") if how == "paused" else moment + 24 * HOUR
    assert redis.zscore(key, "nightly") == expected
    if how == "paused":
        app.schedules.resume("nightly")
        assert redis.zscore(key, "nightly") == moment + 24 * HOUR


def test_a_moment_that_has_passed_is_not_set_again(app, add, redis, supervisor):
    """Another worker may have sent it while this one reckoned."""
    daily(app)
    service, store = supervisor(app), app.schedules.store
    ((_, _, described),) = service.source.declared()
    revision = service.watched["nightly"].revision
    redis.zrem(app.broker.keys.schedules, "nightly")

    for first, due in ((store.now() - 1, None), (store.now() + HOUR, store.now() + HOUR)):
        again = Declaration(name="nightly", revision=revision, first=first, fields=described)
        (answer,) = store.declare([again])

        assert answer.word == "same"
        assert answer.due is due is None or answer.due == pytest.approx(due, abs=1000)


def test_what_has_ended_is_not_taken_for_lost(app, add, redis, supervisor):
    app.schedule("once", add, at("2020-01-01"), (1, 2))
    app.schedules.add("gone", "add", every("24h"), (1, 2))
    service = supervisor(app)
    redis.zrem(app.broker.keys.schedules, "gone")

    service.refresh()

    assert redis.zrange(app.broker.keys.schedules, 0, -1) == []


def test_a_worker_starts_where_the_moments_cannot_be_read(app, add, redis, supervisor, caplog):
    app.schedule("coded", "add", every("24h"), (1, 2))
    spoil(app, redis, app.broker.keys.schedules)

    service = supervisor(app)

    assert "schedules cannot be fired, and are tried again" in caplog.text
    redis.delete(app.broker.keys.schedules)
    service.refresh()
    assert redis.zscore(app.broker.keys.schedules, "coded")


def test_none_is_added_in_place_of_a_key_of_another_type(app, redis):
    spoil(app, redis, app.broker.keys.schedule("added"))

    with pytest.raises(WrongType, match="schedule:added holds"):
        app.schedules.add("added", "add", every("24h"))


DAMAGED = [
    {"when": "every("}, {"when": "every('0s')"}, {"when": "open('x')"}, {"message": "{{{"},
    {"message": "null"}, {"jitter": "soon"}, {"tz": "Berlin"}, {"deadline": "\x1b[2J"},
    {"overlap": "sometimes"}, {"catch_up": "two"}, {"source": "else"},
]  # fmt: skip


@pytest.mark.parametrize("fields", DAMAGED, ids=str)
def test_a_damaged_schedule_is_logged_and_left(app, add, redis, supervisor, caplog, fields):
    daily(app)
    app.schedules.add("damaged", "add", every("24h"), (1, 2))
    redis.hset(app.broker.keys.schedule("damaged"), mapping=fields)

    service = supervisor(app)

    assert list(service.watched) == ["nightly"]
    if "source" not in fields:
        assert "schedule damaged cannot be fired: " in caplog.text
    service.refresh()
    assert list(service.watched) == ["nightly"]


def test_arguments_that_do_not_fit_are_told_when_a_worker_starts(app, add, supervisor):
    app.schedule("short", add, every("1h"), (1,))

    with pytest.raises(ConfigError, match="schedule short: missing a required argument: 'y'"):
        supervisor(app)


def test_two_of_one_name_are_an_error(app, add):
    app.schedule("one", add, every("1h"))
    app.schedule("one", add, every("1h"))

    with pytest.raises(ConfigError, match="two schedules are named one"):
        app.schedule("one", add, crontab(minute=0))


def test_decorators_make_tasks(app):
    @app.every("30s")
    def poll():
        return "polled"

    @app.cron("0 2 * * *", tz="Europe/Berlin", name="nightly", jitter="5s", queue="slow")
    @app.task
    def clean():
        return "cleaned"

    assert poll() == "polled"
    names = [each.name for each in app.schedules]
    assert names == [poll.name, "nightly"]
    nightly = app.schedules.declared["nightly"]
    assert (nightly.tz, nightly.jitter, nightly.call.options["queue"]) == (
        *("Europe/Berlin", 5.0, "slow"),
    )


def test_a_moment_that_is_over_is_never_sent(app, add, redis, supervisor):
    app.schedule("past", add, at("2020-01-01"), (1, 2))
    service = supervisor(app)

    service.run()

    assert sent(app, redis) == []
    assert redis.zscore(app.broker.keys.schedules, "past") is None


# Schedules that no living worker declares


@pytest.fixture
def left(make_app, supervisor):
    """A schedule whose code has gone, and the scheduler of other code that has seen that."""
    gone, app = make_app(), make_app()
    gone.schedule("gone", "add", every("24h"), (1, 2))
    supervisor(gone)
    service = supervisor(app)
    service.undeclared.began -= SETTLED
    return service


def look_again(app, redis, service, *, hours=0.0):
    """Let this much time have passed since it was noted, and let the supervisor look again."""
    key = app.broker.keys.schedule("gone")
    if (since := redis.hget(key, "undeclared")) is not None:
        redis.hset(key, "undeclared", int(since) - round(hours * HOUR))
    service.refresh()
    return redis.exists(key), redis.zscore(app.broker.keys.schedules, "gone")


def test_what_nobody_has_declared_for_a_day_is_removed(app, redis, left, caplog):
    caplog.set_level(logging.INFO, "streamq.worker")
    assert look_again(app, redis, left, hours=23.9)[0]

    assert look_again(app, redis, left, hours=0.2) == (0, None)

    assert "schedule gone is removed: no worker has declared it for a day" in caplog.text


@pytest.mark.parametrize("why", ["a living worker", "declared again", "paused", "young", "later"])
def test_others_are_not_removed(app, make_app, redis, left, supervisor, why):
    key = app.broker.keys.schedule("gone")
    match why:
        case "a living worker":
            redis.zadd(app.broker.keys.workers, {"other": clock.time() * 1000 + HOUR})
            redis.hset(app.broker.keys.worker("other"), "schedules", redis.hget(key, "revision"))
        case "declared again":
            again = make_app()
            again.schedule("gone", "add", every("24h"), (1, 2))
            supervisor(again)
            assert not redis.hexists(key, "undeclared")
        case "paused":
            app.schedules.pause("gone")
        case "young":
            left.undeclared.began = clock.monotonic()
        case "later":
            left.place = 1

    assert look_again(app, redis, left, hours=25)[0]

    assert redis.hexists(key, "undeclared") == (why != "a living worker")


@pytest.mark.parametrize(("early", "wait"), [(50, 0.05), (HOUR, 1.0)])
def test_a_moment_that_is_not_due_by_the_server_is_tried_again_a_little_later(
    app, add, redis, supervisor, monkeypatch, early, wait
):
    """The server's clock was turned back: not at once, and not only after an hour."""
    service, now = (daily(app), supervisor(app))[1], clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    due = service.store.now() + early
    make_due(app, redis, "nightly", due)
    service.refresh()
    service.server_ms = lambda: due

    service.run()

    assert sent(app, redis) == []
    assert service.moment - now == pytest.approx(wait, abs=0.03)


class Failing:
    def next_after(self, moment):
        raise RuntimeError("oops")


def test_a_class_that_fails_at_once_is_named(app, add, supervisor):
    app.schedule("own", add, Failing(), (1, 2))

    with pytest.raises(
        ConfigError, match=r"schedule own: next_after failed: RuntimeError\('oops'\)"
    ):
        supervisor(app)
