"""Scripts that take a message for another one of its id: the machine must see each of them."""

from tests.model.mutant import ENDINGS, LATER, NEVER, RETRY, mutant

GENERATIONS, RECORDS = "includes/generations", "includes/records"
USED_AGAIN = [
    mutant(
        "an id whose task has not ended is accepted again",
        "publish",
        "local state, queues = generations().unended(message.id)",
        "local state, queues = nil, nil",
    ),
    mutant(
        "an id that is used again is the one of before",
        "includes/publish_message",
        "if message.chosen then\n    message.generation",
        "if false then\n    message.generation",
    ),
    mutant(
        "a fan-out has ended with its first copy",
        GENERATIONS,
        "(tonumber(found[4]) or 0) > colons",
        "(tonumber(found[4]) or 0) > 0",
    ),
    mutant("a fan-out never ends", GENERATIONS, "finished or all)", "finished)"),
    mutant(
        "a generation tells how the one before ended",
        GENERATIONS,
        "    redis.call('HDEL', record, unpack(END_FIELDS))\n",
    ),
    mutant(
        "a generation without a record keeps that of before",
        GENERATIONS,
        "  if kept then",
        "  if true then",
    ),
    mutant(
        "a revocation stops what is sent later",
        GENERATIONS,
        "name)) == 'string' then",
        "name)) == 'nothing' then",
    ),
    mutant(
        "what another generation did counts",
        RECORDS,
        "elseif found.err or (found[2] or '1') ~= generation then",
        "elseif found.err then",
    ),
    mutant(
        "the end of another generation is written",
        ENDINGS,
        "local another = (before[4] or '1') ~= generation",
        "local another = false",
    ),
    mutant(
        "an end without a record has no number",
        ENDINGS,
        "    redis.call('HSET', record, 'generation', generation)\n",
    ),
    mutant(
        "a number without a record is forgotten",
        GENERATIONS,
        "return tonumber(generation_in(type(number) == 'string' and number))",
        "return 1",
    ),
    mutant(
        "what is forgotten has no number", "forget_result", "if used.unended(ARGV[1]) then", NEVER
    ),
    mutant(
        "the revocation of another is not met",
        ENDINGS,
        "if another or before[1] == 'REVOKED' then",
        "if before[1] == 'REVOKED' then",
    ),
    mutant(
        "a copy of another fan-out counts",
        ENDINGS,
        "if not copies or not string.find(':' .. copies .. ':', ':' .. queue .. ':', 1, true) then",
        "if not copies then",
    ),
    mutant(
        "another generation shows that it runs",
        "mark_started",
        " and not another)",
        ")",
    ),
    mutant(
        "another generation tells where it stands",
        "update_state",
        " or (found[3] or '1') ~= generation",
        "",
    ),
    mutant(
        "revoking takes another from its place",
        "includes/revocation",
        "(not state or generation_in(generation) == current)",
        "true",
    ),
    mutant(
        "revoking without a record means only the last",
        "includes/revocation",
        "names_from(id, state and last or 1, last)",
        "names_from(id, last, last)",
    ),
    mutant(
        "what is for later is called by its id",
        LATER,
        "key_of('scheduled'), name_of(id, generation)",
        "key_of('scheduled'), id",
    ),
    mutant("a letter is put back beside its id", "retry_dead", "if in_use then", NEVER),
    mutant(
        "a letter is put back as the one of before",
        "retry_dead",
        "sent_again(message, used.next({ id }))",
        "sent_again(message, 1)",
    ),
    mutant(
        "a message by hand ends with the one of before",
        RETRY,
        "if known and known.state == 'REVOKED' then",
        "if known and known.ended then\n    return true\n  end\n  if false then",
    ),
    mutant(
        "a task of before is revoked for ever",
        RECORDS,
        "revoked = found[4] and not ended",
        "revoked = found[4]",
    ),
]
