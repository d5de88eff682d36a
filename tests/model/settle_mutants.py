"""Scripts that start, settle and hand back messages, with one thing wrong."""

from tests.model.mutant import (
    ENDINGS,
    LEASED,
    MESSAGES,
    NEVER,
    NUMBERED,
    REQUEUE,
    SCORED,
    XACK,
    mutant,
)

CONSUMERS = [
    mutant("the dead settle", NUMBERED, LEASED, NEVER),
    mutant("the dead hand back", "release", SCORED, NEVER),
    mutant("the dead reject", "reject", SCORED, NEVER),
    mutant("the dead show what they start", "mark_started", SCORED, NEVER),
    mutant("complete asks nobody", "settle", f"settled = {XACK}", f"{XACK} settled = 1"),
    mutant("take asks nobody", MESSAGES, f"if {XACK} == 0 then", f"if {XACK} == 2 then"),
    mutant("complete leaves the entry", "settle", "if done[1] then", NEVER),
    mutant("take leaves the entry", MESSAGES, "  redis.call('XDEL', key, entry)\n"),
    mutant("complete forgets its number", "settle", "if before then", NEVER),
    mutant(
        "settle forgets its number",
        "follow",
        "local before, progress = answered(consumer, number)",
        "local before, progress = nil, ''",
    ),
    mutant(
        "an early message leaves no mark",
        "settle",
        "        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])\n",
    ),
    mutant(
        "an end is kept for ever",
        ENDINGS,
        "moment, ...)\n  if tonumber(expires) > 0 then",
        f"moment, ...)\n  {NEVER}",
    ),
    mutant(
        "an end is overwritten",
        ENDINGS,
        "if FINAL[before[1]] or (another",
        "if (another",
    ),
    mutant(
        "an end is touched",
        ENDINGS,
        "if known and not known.ended then\n    redis.call('HSET', record, 'worker'",
        "if known then\n    redis.call('HSET', record, 'worker'",
    ),
    mutant(
        "an ended task starts",
        "mark_started",
        "local waits = not state or (is_waiting(state) and not found[3] and not another)",
        "local waits = not another",
    ),
    mutant("nobody is told", ENDINGS, "    notify_waiters(waiters, id, 'state', state, ...)\n"),
    mutant(
        "the news are kept",
        ENDINGS,
        "    redis.call('HDEL', record, 'waiters')\n  elseif",
        "  elseif",
    ),
    mutant(
        "nobody is told of an end without a word",
        ENDINGS,
        "      notify_waiters(waiters, id, 'state', known.state, 'finished', moment)\n",
    ),
    mutant("a base expires early", ENDINGS, "elseif ended > colons", "elseif ended > 0"),
    mutant(
        "screen sees no expiry",
        "check_start",
        "elseif expires and expires <= now then",
        "elseif false then",
    ),
    mutant(
        "screen sees no revocation",
        "check_start",
        "if is_revoked(ARGV[i], ARGV[i + 1]) then",
        NEVER,
    ),
    mutant(
        "what is handed back stays",
        REQUEUE,
        "  ack_and_delete(stream, entry)\n  show_waiting(",
        "  show_waiting(",
    ),
    mutant(
        "what is handed back is lost",
        REQUEUE,
        "    add_message(front, fields)\n",
    ),
    mutant(
        "what keeps no result has a record",
        ENDINGS,
        "if state ~= '' and field(fields, 'ignore_result') ~= '1' then",
        "if state ~= '' then",
    ),
]
