#!lua flags=allow-oom
-- Return the end of a task, or register a waiter for it.
--
-- KEYS  root of the namespace
-- ARGV  id, name of the reply stream that will be read
--
-- Answers the record of a task that has ended, or went to several queues; else
-- {state, STATE}, and the end will be added to the reply stream; {} if there is no record yet:
-- then the waiter is kept for a minute, in a key of its own, in case the task is about to be
-- sent.
--
-- @include keys
-- @include records

local EARLY_WAITER_LIFE_MS = 60000

local record, reply = key_of('task', ARGV[1]), ARGV[2]
local found = redis.call('HMGET', record, 'state', 'copies', 'waiters', 'finished')
local state, waiters = found[1], found[3]

if FINAL[state] or found[2] or found[4] then
  return redis.call('HGETALL', record)
end

-- The names of the waiters with this one added; nil if it is among them already.
local function joined(names)
  if not names then
    return reply
  elseif not string.find(' ' .. names .. ' ', ' ' .. reply .. ' ', 1, true) then
    return names .. ' ' .. reply
  end
end

if not state then
  local early_waiters = key_of('waiters', ARGV[1])
  local names = redis.call('GET', early_waiters)
  redis.call('SET', early_waiters, joined(names) or names, 'PX', EARLY_WAITER_LIFE_MS)
  return {}
end
local names = joined(waiters)
if names then
  redis.call('HSET', record, 'waiters', names)
end
return { 'state', state }
