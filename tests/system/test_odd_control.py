"""What others may write where supervisors look: workers go on."""

TASKS = """
@app.task
def add(x, y):
    return x + y
"""


def test_junk_in_control_data_ends_no_worker(site):
    site.write(TASKS)
    site.env["STREAMQ_LEASE"] = "1s"
    worker = site.worker("-c", 1)
    junk = b"\xff\x00:\xfe junk"
    consumer = site.redis.zrange("{streamq}:leases", 0, -1)[0]

    for name in ("leases", "terminating", "revoked", "workers", "orphans"):
        site.redis.zadd(f"{{streamq}}:{name}", {junk: 5, b"x": 9e15, b"": 1})
    lengths = {junk: junk, b"x": b"-5", b"": b"1"}
    site.redis.hset("{streamq}:lease_ms", mapping=lengths)
    site.redis.sadd("{streamq}:quarantine", junk, "nowhere")
    site.redis.hset(f"{{streamq}}:started:{consumer}", "x y", "no mark")
    site.redis.zadd("{streamq}:scheduled", {b"gone": 1, junk: 2, b"far": 1e20})
    for word in (b"due soon", b"due -1", b"terminate SIGHUPS x", b"terminate", junk, b""):
        site.redis.publish("{streamq}:notices", word)

    deadline = float(site.redis.zscore("{streamq}:leases", consumer))
    site.until(lambda: site.redis.zscore("{streamq}:leases", consumer) > deadline + 1000)
    assert site.send("add", 2, 3).get(timeout=10) == 5
    later = site.send("add", 3, 4, countdown=0.5)
    assert later.get(timeout=10) == 7
    assert worker.process.poll() is None
    assert "Traceback" not in worker.said, worker.said
