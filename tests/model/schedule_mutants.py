"""What may be wrong in the scripts of schedules; the model finds each."""

from tests.model.mutant import NEVER, mutant

TICK, DECLARE, CHANGE = "tick", "declare_schedules", "change_schedule"

SCHEDULE_MUTANTS = [
    mutant("a moment is sent by each who tries", TICK, "if score ~= expected then", NEVER),
    mutant(
        "it is sent before it is due",
        TICK,
        "elseif tonumber(expected) > now then",
        "elseif false then",
    ),
    mutant("older code fires", TICK, "(known[1] or '') ~= revision", "false"),
    mutant("who does not know of a pause fires", TICK, "(known[2] or '') ~= resumed", "false"),
    mutant(
        "the next moment may be the same",
        TICK,
        "moment <= tonumber(expected)",
        "moment < tonumber(expected)",
    ),
    mutant(
        "the next moment may be far away", TICK, "gap and moment > last + gap + YEAR_MS", "false"
    ),
    mutant("skip sends", TICK, "overlap == 'skip' and last_id", "false and last_id"),
    mutant(
        "skip never sends again",
        TICK,
        "overlap == 'skip' and last_id and generations().unended(last_id)",
        "overlap == 'skip' and last_id",
    ),
    mutant(
        "what is skipped is not counted", TICK, "redis.call('HINCRBY', schedule_key, 'skipped', 1)"
    ),
    mutant("replace leaves the last run", TICK, "  revoke_last(last_id)\nend"),
    mutant("an id in use is sent again", TICK, "generations().unended(id) --", "false --"),
    mutant("what is refused goes on", TICK, "if refused and not final then", NEVER),
    mutant(
        "what is refused for good stays",
        TICK,
        "  write_run('failed', 'error', refused)",
    ),
    mutant(
        "the next moment is not set",
        TICK,
        "redis.call('ZADD', key_of('schedules'), 'XX', following, name)",
    ),
    mutant("an ended schedule stays due", TICK, "redis.call('ZREM', key_of('schedules'), name)"),
    mutant(
        "an ended schedule stays for ever",
        TICK,
        "redis.call('PEXPIRE', schedule_key, ENDED_LIFE_MS)",
    ),
    mutant(
        "what was missed is not counted",
        TICK,
        "redis.call('HINCRBY', schedule_key, 'missed', missed)",
    ),
    mutant("the last run is forgotten", TICK, "'last_id', id, "),
    mutant("lower revisions replace higher ones", DECLARE, "word = 'older'", "word = word"),
    mutant("an order is forgotten", DECLARE, "redis.call('HSET', key, 'order', order)"),
    mutant("code and api replace each other", DECLARE, "word = 'foreign'", "word = 'changed'"),
    mutant(
        "a turn back is not told",
        DECLARE,
        "found[3] == revision and 'back' or 'changed'",
        "'changed'",
    ),
    mutant("what is owed is lost", DECLARE, "    following = owed"),
    mutant(
        "what was owed is sent again",
        DECLARE,
        "redis.call('ZSCORE', key_of('schedules'), name) == owed",
        "true",
    ),
    mutant("what has happened is forgotten", DECLARE, "'last_late_ms', ", ""),
    mutant(
        "a changed schedule is not paused any more",
        DECLARE,
        "set_next(key, name, following, values[1])",
        "set_next(key, name, following)",
    ),
    mutant(
        "a lost moment stays lost",
        DECLARE,
        "following ~= '' and tonumber(following) > now",
        "false",
    ),
    mutant("what was fired meanwhile is restored", DECLARE, "tonumber(following) > now", "true"),
    mutant("a restored schedule still ends", DECLARE, "redis.call('PERSIST', key)"),
    mutant(
        "what is declared counts as undeclared", DECLARE, "redis.call('HDEL', key, 'undeclared')"
    ),
    mutant(
        "a change ignores what is expected",
        CHANGE,
        "(expected ~= '' and score ~= expected)",
        "false",
    ),
    mutant(
        "a second pause forgets the moment",
        CHANGE,
        "how == 'pause' and not paused",
        "how == 'pause'",
    ),
    mutant("a pause fires", CHANGE, "redis.call('ZADD', schedules, 'inf', name)"),
    mutant(
        "a pause is told to nobody who fires", CHANGE, "redis.call('HSET', key, 'resumed', moment)"
    ),
    mutant(
        "the moment is lost in a pause", CHANGE, "redis.call('ZADD', schedules, following, name)"
    ),
    mutant(
        "a removed schedule leaves its runs",
        CHANGE,
        "redis.call('DEL', key, key .. ':runs')",
        "redis.call('DEL', key)",
    ),
    mutant(
        "it is undeclared since it was last looked at",
        CHANGE,
        "'HSETNX', key, 'undeclared'",
        "'HSET', key, 'undeclared'",
    ),
]
