"""Scripts that publish, with one thing wrong: the machine must see each of them."""

from tests.model.mutant import CHANNELS, DESTINATIONS, NEVER, SAME_CALL, mutant

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
        "publish",
        "in ipairs(queues) do\n      local id",
        "in ipairs({queues[1]}) do\n      local id",
    ),
]
