"""Scripts that publish, with one thing wrong: the machine must see each of them."""

from tests.model.mutant import CHANNELS, DESTINATIONS, EMIT, NEVER, SAME_CALL, mutant

PRODUCERS = [
    mutant("a channel forgets", CHANNELS, SAME_CALL[0], NEVER),
    mutant("a channel forgets what it pushed", "publish_plain", SAME_CALL[1], NEVER),
    mutant(
        "an older number of a channel is taken",
        CHANNELS,
        "if tonumber(newest) >= tonumber(number) then",
        NEVER,
    ),
    mutant(
        "a call is known by its number alone",
        CHANNELS,
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
    mutant(
        "a full queue takes more", DESTINATIONS, "queue.max_length and not has_room(queue)", "false"
    ),
    mutant(
        "only the first queue gets it",
        "includes/publish_message",
        "in ipairs(queues) do\n      local id",
        "in ipairs({queues[1]}) do\n      local id",
    ),
    mutant("a message has no record", EMIT, "if message.keep or message.generation then", NEVER),
    mutant(
        "a message for later comes now",
        EMIT,
        "  if message.later then\n    local",
        "  if false then\n    local",
    ),
    mutant(
        "a message does not say which generation it is",
        EMIT,
        "    added[1], added[2] = 'generation', message.generation\n",
    ),
    mutant("a message does not expire", EMIT, "if message.expires then", NEVER),
    mutant(
        "a level is not looked for",
        "includes/queues",
        "if queue.max_priority and priority > 0 then",
        NEVER,
    ),
]
