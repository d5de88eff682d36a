"""Signed messages through real workers: crashes, retries by people, and forgers."""

import os

import pytest

from streamq.errors import SignatureInvalid

TASKS = """
@app.task
def once_fatal(word):
    note(word)
    if len((HERE / "notes").read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return word

@app.task
def echo(word):
    note(word)
    return word
"""

KEYS = f"k1:{'s' * 32}"


@pytest.fixture
def sealed(site):
    """A site where signing is required, and a producer with the key."""
    site.write(TASKS)
    site.env |= {"STREAMQ_SIGNING": "required", "STREAMQ_SIGNING_KEYS": KEYS}
    site.app = site.new_app(signing="required", signing_keys=KEYS)
    return site


@pytest.mark.parametrize("flags", [("-c", 1), ("-P", "gevent", "-c", 4)])
def test_a_message_is_still_good_after_its_runner_has_died(sealed, flags):
    sealed.worker(*flags)
    result = sealed.send("once_fatal", "again")

    assert result.get(timeout=20) == "again"
    assert sealed.notes() == ["again", "again"]


def test_what_is_not_signed_reaches_no_task(sealed):
    worker = sealed.worker("-c", 2)
    unsigned = sealed.new_app()
    results = [unsigned.enqueue("tasks.echo", str(number)) for number in range(200)]
    good = sealed.send("echo", "genuine")

    assert good.get(timeout=10) == "genuine"
    for result in results:
        with pytest.raises(SignatureInvalid):
            result.get(timeout=10)

    assert sealed.notes() == ["genuine"]
    assert sealed.redis.zcard("{streamq}:dead:default") == 200
    assert worker.said.count("went to the dead letters: signature") < 20
    sealed.at_rest()


def test_a_dead_letter_that_was_signed_can_be_put_back(sealed):
    sealed.worker("-c", 1).stop()
    result = sealed.send("echo", "back")
    _, fields = sealed.redis.xrange("{streamq}:queue:default")[0]
    worker = sealed.worker("-c", 1)
    sealed.until(lambda: result.state == "SUCCESS")
    letter = {**fields, "dead_reason": "rejected", "dead_at": "1", "dead_error": "", "crashes": "2"}
    sealed.redis.hset(f"{{streamq}}:dead:default:{result.id}", mapping=letter)
    sealed.redis.zadd("{streamq}:dead:default", {result.id: 1})

    revive = sealed.python(
        "import sys; from streamq.cli.main import main; sys.argv = "
        f"['streamq', 'dead', 'retry', 'default', {result.id!r}]; main()"
    )
    out, err = revive.communicate(timeout=30)

    assert revive.returncode == 0, out + err
    sealed.until(lambda: sealed.notes() == ["back", "back"], worker.said)


def test_a_worker_without_a_key_does_not_start(sealed):
    del sealed.env["STREAMQ_SIGNING_KEYS"]
    worker = sealed.worker("-c", 1, ready=False)

    assert worker.wait() == os.EX_CONFIG
    assert "no signing_keys" in worker.said
    assert "Traceback" not in worker.said
