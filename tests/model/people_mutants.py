"""Scripts of commands that people run: revoke, reject, purge, delete; with one thing wrong."""

from tests.model.mutant import ENDINGS, NEVER, SCORED, mutant

PEOPLE = [
    mutant(
        "a revocation is forgotten",
        "includes/revocation",
        "      add_expiring(key_of('revoked'), name, how.life)\n",
    ),
    mutant("a revoked task stays for later", "includes/revocation", "      drop_scheduled(name)\n"),
    mutant(
        "a running task hears nothing",
        "includes/revocation",
        "redis.call('HSET', record, 'revoked', '1')\n",
    ),
    mutant(
        "a waiting task is not revoked beside one for later",
        "includes/revocation",
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
        "a purge tells nobody", "purge", "finish(id, message[2], 'REVOKED', expires", "tostring(id"
    ),
]
