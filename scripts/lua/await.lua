#!lua flags=allow-oom
-- Tell how a task ended, or be told later.
--
-- KEYS  root of the namespace
-- ARGV  id, name of the reply stream that will be read
--
-- Answers the record of a task that has ended, or went to several queues; else
-- {state, STATE}, and the end will be added to the reply stream; {} if there is no record
-- yet: then the wish is kept for a minute, in a key of its own, in case the task is only
-- about to be sent.
--
-- @include keys
-- @include records

local WISH_LIFE_MS = 60000

local record, reply = key_of('task', ARGV[1]), ARGV[2]
local found = redis.call('HMGET', record, 'state', 'copies', 'waiters', 'finished')
local state, waiters = found[1], found[3]

if FINAL[state] or found[2] or found[4] then
  return redis.call('HGETALL', record)
end

-- These names with ours among them; nil if it is there already.
local function joined(names)
  if not names then
    return reply
  elseif not string.find(' ' .. names .. ' ', ' ' .. reply .. ' ', 1, true) then
    return names .. ' ' .. reply
  end
end

if not state then
  local wish = key_of('wish', ARGV[1])
  local names = redis.call('GET', wish)
  redis.call('SET', wish, joined(names) or names, 'PX', WISH_LIFE_MS)
  return {}
end
local names = joined(waiters)
if names then
  redis.call('HSET', record, 'waiters', names)
end
return { 'state', state }
