#!lua flags=allow-oom
-- Revoke a task: it will not start any more, on any worker, also one that is disconnected now.
--
-- A task that waits ends as REVOKED at once, and its message is dropped when a worker reads it.
-- One that is scheduled is removed at once, and leaves no entry in `revoked`: with many of them
-- every read would have to ask about each message.  A task that runs continues, unless it is to
-- be terminated: then the supervisors get a notice.  It is not retried.
--
-- KEYS  root of the namespace
-- ARGV  id
--       expires                      life of its record (ms)
--       life                         how long the revocation is kept while no worker reads
--                                    the message (ms)
--       signal                       to terminate it with, or ''
--       term                         how long supervisors look for it (ms)
--
-- The last generation of the id is revoked; where no record tells which that is, every one that
-- may exist.
--
-- Answers the state that the task has now, '' if it has no record.
--
-- @include revocation

return revoke(ARGV[1], { expires = ARGV[2], life = ARGV[3], signal = ARGV[4], term = ARGV[5] })
