"""Too many messages, and too many who wait."""

import pytest

from tests.system.test_overload import (
    FILL,
    STREAM,
    median_of_enqueue,
    one_connection_for_all_who_wait,
    rate,
    short,  # noqa: F401 - a fixture
)


@pytest.mark.timeout(180)
def test_a_million_messages_are_worked_off_as_fast_as_a_few(site, server):
    """What a precise measurement says: benchmarks/bench_backlog.py."""
    site.write("\n@app.task\ndef quick(number):\n    return number\n")
    server.client.config_set("appendonly", "no")
    site.worker("-c", 2).stop()  # the queue is there
    few = median_of_enqueue(site)
    for _ in range(100):
        server.client.eval(FILL, 1, STREAM, 10_000)
    assert site.held() >= 10**6
    site.until(lambda: median_of_enqueue(site) < 3 * few, "it is added to as fast")
    site.worker("-c", 2)
    many_left = rate(site)
    assert site.held() > 500_000
    site.redis.xtrim(STREAM, minid=site.redis.xrevrange(STREAM, count=60_000)[-1][0])

    assert many_left > 0.5 * rate(site, 1.0)
    assert site.pending() <= 300


@pytest.mark.timeout(300)
def test_ten_thousand_who_wait_in_one_process_need_one_connection(short, server):
    one_connection_for_all_who_wait(short, server, 10_000)
