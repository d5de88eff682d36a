#!lua flags=allow-oom
-- Tell how a task ended, or be told later.
--
-- KEYS  root of the namespace
-- ARGV  id, name of the reply stream that will be read
--
-- Answers the record of a task that has ended, or went to several queues; else
-- {state, STATE}, and the end will be added to the reply stream; {} if there is no record
-- yet: then the wish is kept for a minute, in case the task is only about to be sent.
--
-- @include keys
-- @include records

local WISH_LIFE_MS = 60000

local record, reply = key_of('task', ARGV[1]), ARGV[2]
local found = redis.call('HMGET', record, 'state', 'copies', 'waiters')
local state, waiters = found[1], found[3] or ''

if FINAL[state] or found[2] then
  return redis.call('HGETALL', record)
end
if not string.find(' ' .. waiters .. ' ', ' ' .. reply .. ' ', 1, true) then
  redis.call('HSET', record, 'waiters', waiters == '' and reply or waiters .. ' ' .. reply)
end
if not state then
  redis.call('PEXPIRE', record, WISH_LIFE_MS)
  return {}
end
return { 'state', state }
