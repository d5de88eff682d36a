"""Scripts that recover messages of dead consumers, with one thing wrong."""

from tests.model.mutant import LEASES, NEVER, REQUEUE, mutant

DYING = [
    mutant(
        "the dead keep their lease",
        "recover",
        "redis.call('ZREM', key_of('leases'), consumer)\n",
        "",
        "crashes",
    ),
    mutant(
        "the lengths of the leases of the dead stay",
        "recover",
        "redis.call('HDEL', key_of('lease_ms'), consumer)\n",
        "",
        "crashes",
    ),
    mutant(
        "what was read is not looked through",
        "recover",
        "for i = at, #ARGV do",
        "for i = at + 1, #ARGV do",
        "crashes",
    ),
    mutant("a stale deadline", "recover", "if deadline ~= claim then", NEVER, "crashes"),
    mutant(
        "a deadline of a lease that is gone",
        "recover",
        "if deadline ~= claim then",
        "if deadline ~= 'none' and deadline ~= claim then",
        "crashes",
    ),
    mutant(
        "a clock that jumped",
        "recover",
        "if expected and math.abs(now - expected) > tolerance then",
        NEVER,
        "crashes",
    ),
    mutant("a call knows no bounds", "recover", "if budget == 0 then", NEVER, "crashes"),
    mutant(
        "its consumer goes too early",
        "recover",
        "if budget == 0 then\n        return true\n",
        "if budget == 0 then\n        break\n",
        "crashes",
    ),
    mutant(
        "who was stopped is charged",
        "recover",
        "blame ~= 'none' and was_running(place)",
        "was_running(place)",
        "crashes",
    ),
    mutant(
        "neighbours are charged",
        "recover",
        "return place == sole_task or not known or running[place]",
        "return true",
        "crashes",
    ),
    mutant("nobody is charged", "recover", "+ (counts and 1 or 0)", "+ 0", "crashes"),
    mutant(
        "a suspect is dead_lettered",
        "recover",
        "elseif ran_alone then",
        "elseif true then",
        "crashes",
    ),
    mutant(
        "a suspect is dropped",
        "recover",
        "  add_in_quarantine(queue, fields)\n",
        "",
        "crashes",
    ),
    mutant(
        "a suspect goes to the others",
        REQUEUE,
        "local quarantined = string.find(stream, ':quarantine', 1, true)",
        "local quarantined = false",
        "crashes",
    ),
    mutant(
        "who was alone is forgotten",
        "recover",
        "  if is_mark and ",
        "  redis.call('HDEL', marks, 'sole_task')\n  if is_mark and ",
        "crashes",
    ),
    mutant(
        "what was lost is not told",
        "recover",
        "    attempt(report_lost, started[i], started[i + 1])\n",
        "    redis.call('HDEL', marks, started[i])\n",
        "crashes",
    ),
    mutant(
        "a revoked task is handed back",
        "recover",
        "if was_revoked(id, fields) then",
        NEVER,
        "crashes",
    ),
    mutant(
        "who may live is not fenced first", "recover", "if claim ~= '' then\n  end_lease()", NEVER
    ),
    mutant(
        "its supervisor gives up a lease",
        "recover",
        "if claim ~= '' then\n  end",
        "if true then\n  end",
    ),
    mutant("what is to be settled moves", "recover", "not kept[stream .. ' ' .. held[1]] and ", ""),
    mutant(
        "what is to be settled is lost", "recover", "is_mark and not kept[started[i]]", "is_mark"
    ),
    mutant(
        "what is to be settled has no consumer",
        "recover",
        "not failure and not keeps",
        "not failure",
    ),
    mutant("what is to be settled has no lease", "recover", "elseif not keeps then", "else"),
    mutant(
        "a lost lease is given back",
        "renew",
        f"if redis.call('ZSCORE', {LEASES}, ARGV[i]) then\n    redis.call('ZADD', {LEASES}, 'XX',",
        f"if true then\n    redis.call('ZADD', {LEASES},",
        "crashes",
    ),
    mutant(
        "an orphan is named at once",
        "list_leases",
        "      if not first then\n",
        "      if not first then\n        orphans[#orphans + 1] = name\n",
        "crashes",
    ),
    mutant(
        "the living are orphans",
        "list_leases",
        "and not redis.call('ZSCORE', key_of('leases'), name) then",
        "then",
        "crashes",
    ),
]
