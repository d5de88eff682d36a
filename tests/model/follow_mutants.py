"""Scripts that do what follows a run: retry, dead-letter, promote; with one thing wrong."""

from tests.model.mutant import DEAD, LATER, LETTER, NEVER, RETRY, mutant

FOLLOWING = [
    mutant("a retry is stale", RETRY, "{ stale = true, rejections", "{ rejections"),
    mutant("retries are not counted", RETRY, "    set_field(fields, words[i], value)\n"),
    mutant(
        "a revoked task is tried again",
        RETRY,
        "if revoked_meanwhile(id, generation) then",
        NEVER,
    ),
    mutant("a revocation stays", "follow", "if verb == 'revoked' then", NEVER),
    mutant("a retry ends in no queue", RETRY, "queue) == 1\n", "queue) >= 0\n"),
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
        "local generation = generations().next({ own })",
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
