"""Scripts with one thing wrong: the machine must see each of them."""

from tests.model.mutant import (
    DEAD,
    ENDINGS,
    LATER,
    LEASED,
    LEASES,
    LETTER,
    MESSAGES,
    NEVER,
    NUMBERED,
    SAME_CALL,
    SCORED,
    XACK,
    mutant,
)
from tests.model.reuse_mutants import USED_AGAIN

PRODUCERS = [
    mutant("a channel forgets", "publish", SAME_CALL[0], NEVER),
    mutant("a channel forgets what it pushed", "publish_plain", SAME_CALL[1], NEVER),
    mutant(
        "an older number of a channel is taken",
        "publish",
        "if tonumber(newest) >= tonumber(number) then",
        NEVER,
    ),
    mutant(
        "a call is known by its number alone",
        "publish",
        "return number .. ' ' .. (ARGV[5] or '')",
        "return number .. ' '",
    ),
    mutant(
        "a chosen id is forgotten",
        "publish",
        "redis.call('GET', key_of('dedup', message.id)) or nil",
        "nil",
    ),
    mutant("an id twice in a call", "publish", "= first[message.id]\n", "= nil\n"),
    mutant("a full queue takes more", "publish", "if queue.length > queue.max_length then", NEVER),
    mutant(
        "only the first queue gets it",
        "publish",
        "in ipairs(queues) do\n      append",
        "in ipairs({queues[1]}) do\n      append",
    ),
]

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
        MESSAGES,
        "  ack_and_delete(stream, entry)\n  show_waiting(",
        "  show_waiting(",
    ),
    mutant(
        "what is handed back is lost",
        MESSAGES,
        "    add_message(front, fields)\n",
    ),
]

FOLLOWING = [
    mutant("a retry is stale", "follow", "{ stale = true, rejections", "{ rejections"),
    mutant("retries are not counted", "follow", "    set_field(fields, words[i], value)\n"),
    mutant(
        "a revoked task is tried again",
        "follow",
        "if revoked_meanwhile(id, generation) then",
        NEVER,
    ),
    mutant("a revocation stays", "follow", "if verb == 'revoked' then", NEVER),
    mutant("a retry ends in no queue", "follow", "queue) == 1\n", "queue) >= 0\n"),
    mutant(
        "what is dead_lettered is dropped",
        LETTER,
        "elseif kept or refused then",
        "elseif false then",
        "letters",
    ),
    mutant(
        "an exchange that leads nowhere drops",
        LETTER,
        "return queues[1] and table.concat(queues, ':'),",
        "return table.concat(queues, ':'),",
        "letters",
    ),
    mutant(
        "a letter's end is overwritten",
        LETTER,
        "local generation = used.next({ own })",
        "local generation = 1",
    ),
    mutant("a circle of letters", LETTER, "deaths <= MOST_DEATHS and", "true and"),
    mutant(
        "letters are not bounded",
        DEAD,
        "  trim_dead(queue, limits.most, limits.life_ms)\n",
        "",
        "letters",
    ),
    mutant(
        "a letter is revived and stays",
        "retry_dead",
        "drop_letter(queue, letter)\nreturn expired",
        "return expired",
        "letters",
    ),
    mutant(
        "a letter is revived with its crashes", "retry_dead", "  crashes = true,", "", "letters"
    ),
    mutant("a letter comes twice", "import_letter", "if was_retried() then", NEVER, "letters"),
]

LATE = [
    mutant(
        "it is due again", LATER, "  redis.call('ZREM', key_of('scheduled'), name)\n", "", "later"
    ),
    mutant("its hash stays", LATER, "  redis.call('DEL', scheduled_key(name))\n", "", "later"),
    mutant(
        "it comes early", "promote", "'-inf', now, 'BYSCORE'", "'-inf', '+inf', 'BYSCORE'", "later"
    ),
    mutant("it comes although expired", "promote", "if expires <= now then", NEVER, "later"),
    mutant(
        "it comes where nobody looks",
        "promote",
        "add_message(home, fields)",
        "add_message(stream, fields)",
    ),
    mutant(
        "it comes to no queue",
        "promote",
        "redis.call('HEXISTS', key_of('queues'), queue) == 0",
        "false",
    ),
    mutant(
        "a second one takes its place",
        LATER,
        "while redis.call('ZSCORE', scheduled, name) do",
        "while false do",
        "later",
    ),
]

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
    mutant(
        "a stale deadline", "recover", "if deadline and deadline ~= claim then", NEVER, "crashes"
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
        "  redis.call('XADD', key, '*', unpack(fields))\n",
        "",
        "crashes",
    ),
    mutant(
        "a suspect goes to the others",
        MESSAGES,
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

PEOPLE = [
    mutant(
        "a revocation is forgotten", "revoke", "    add_expiring(key_of('revoked'), name, life)\n"
    ),
    mutant("a revoked task stays for later", "revoke", "      drop_scheduled(name)\n"),
    mutant(
        "a running task hears nothing",
        "revoke",
        "redis.call('HSET', record, 'revoked', '1')\n",
    ),
    mutant(
        "a waiting task is not revoked beside one for later",
        "revoke",
        "and state ~= 'QUEUED'",
        "",
    ),
    mutant(
        "a revoked task waits again",
        "release",
        "was_revoked(id, fields) or queue_deleted",
        "queue_deleted",
    ),
    mutant(
        "what goes back keeps its mark",
        "release",
        "    redis.call('HDEL', marks, stream .. ' ' .. entry)\n",
    ),
    mutant(
        "what goes back has no queue",
        "release",
        "queue_deleted = ack == 'early'",
        "queue_deleted = false",
    ),
    mutant("a revoked task is rejected", "reject", "if was_revoked(id, fields) then", NEVER),
    mutant(
        "what is rejected is kept twice",
        "reject",
        "ack_and_delete(stream, entry)\nshow_waiting(id, generation)\n",
        "show_waiting(id, generation)\n",
    ),
    mutant(
        "what was rejected goes to the end",
        "promote",
        "elseif field(fields, 'rejections') and stream == front_of(stream) then",
        "elseif false then",
    ),
    mutant(
        "a revocation that was met stays",
        ENDINGS,
        "if another or before[1] == 'REVOKED' then",
        "if another then",
    ),
    mutant("the dead tell where a task stands", "update_state", SCORED, NEVER),
    mutant(
        "others tell where a task stands",
        "update_state",
        "not is_waiting(state) and worker ~= consumer",
        "false",
    ),
    mutant("a purge takes what runs", "purge", "'(' .. last_read(key)", "'-'"),
    mutant("a queue goes with its messages", "delete_queue", "if held > 0 then", NEVER),
    mutant(
        "a purge tells nobody", "purge", "if field(message[2], 'ignore_result') ~= '1' then", NEVER
    ),
]

MUTANTS = [*PRODUCERS, *CONSUMERS, *FOLLOWING, *LATE, *DYING, *PEOPLE, *USED_AGAIN]
