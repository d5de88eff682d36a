#!lua flags=allow-oom
-- Revoke a task: it will not start any more, on any worker, also one that is away now.
--
-- A task that waits ends as REVOKED at once, and its message is dropped when it is met; one
-- that is for later leaves at once, and no mark stays: with many of them each read would ask
-- about each message.  One that runs goes on, unless it is to be terminated: then the
-- supervisors are told.  It is not tried again.
--
-- KEYS  root of the namespace
-- ARGV  id
--       expires                      life of its record (ms)
--       life                         how long the revocation is kept for a message that is
--                                    not met (ms)
--       signal                       for terminating it, or ''
--       term                         how long supervisors look for it (ms)
--
-- Answers the state that the task has now, '' if it has no record.
--
-- @include keys
-- @include clock
-- @include endings
-- @include waiting
-- @include streams
-- @include later

local id, expires, life, signal, term = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local record = key_of('task', id)
local state = redis.call('HGET', record, 'state')

if FINAL[state] then
  return state
end

-- Keep something in a ZSET for so long (ms); the whole of it lives as long as its last one.
local function note(key, member, lasts)
  redis.call('ZADD', key, now + tonumber(lasts), member)
  if redis.call('PTTL', key) < tonumber(lasts) then
    redis.call('PEXPIRE', key, lasts)
  end
end

local waits = not state or WAITING[state]
local later = redis.call('ZSCORE', key_of('scheduled'), id)
-- A second one of the same id, which no record keeps from running.
local twin = not state and redis.call('ZSCORE', key_of('scheduled'), id .. '#2')

if later then
  drop_later(id)
end
-- Where the record waits for a moment, or there is none, the message for later was it.
if waits and not (later and state ~= 'QUEUED' and not twin) then
  redis.call('ZREMRANGEBYSCORE', key_of('revoked'), '-inf', now)
  note(key_of('revoked'), id, life)
end
if state and waits then
  finish(id, 'REVOKED', expires, 'reason', 'revoked')
  state = 'REVOKED'
elseif state then
  redis.call('HSET', record, 'revoked', '1')
end
if signal ~= '' then
  note(key_of('terminating'), signal .. ' ' .. id, term)
  redis.call('PUBLISH', key_of('bell'), 'terminate ' .. signal .. ' ' .. id)
end
return state or ''
