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
-- What is revoked is the last generation of the id; where there is no record to tell it, every
-- one that may be there.
--
-- Answers the state that the task has now, '' if it has no record.
--
-- @include keys
-- @include clock
-- @include endings
-- @include waiting
-- @include streams
-- @include later
-- @include generations

local LOOKED_AT = 20 -- places of one id among those for later

local id, expires, life, signal, term = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local record = key_of('task', id)
local found = redis.call('HMGET', record, 'state', 'generation', 'finished')
local state, current = found[1], found[2] or '1'
if not state then
  current = string.format('%.0f', generations().number_of(id))
end

if FINAL[state] or (state and found[3]) then
  return state
end

-- Keep something in a ZSET for so long (ms); the whole of it lives as long as its last one.
local function note(key, member, lasts)
  redis.call('ZADD', key, now + tonumber(lasts), member)
  if redis.call('PTTL', key) < tonumber(lasts) then
    redis.call('PEXPIRE', key, lasts)
  end
end

-- What a message that is meant may be called, from a number on.
local function names_from(first, last)
  local names = {}
  for number = first, last do
    names[#names + 1] = name_of(id, string.format('%.0f', number))
  end
  return names
end

-- How many of its messages are for later; they leave.
local function drop_all_later()
  local first, dropped = state and tonumber(current) or 1, 0
  for _, name in ipairs(names_from(first, first + LOOKED_AT - 1)) do
    local there = redis.call('ZSCORE', key_of('scheduled'), name)
    local generation = there and redis.call('HGET', later_key(name), 'generation')
    if there and (not state or generation_in(generation) == current) then
      drop_later(name)
      dropped = dropped + 1
    end
  end
  return dropped
end

local last = tonumber(current)
local meant = names_from(state and last or 1, last)
local waits = not state or WAITING[state]
local later = drop_all_later()
-- Where the record waits for a moment, or there is none, the message for later was it; without
-- a record a second one of the id may be there.
local was_it = later == 1 and (state or last == 1) and state ~= 'QUEUED'
if waits and not was_it then
  redis.call('ZREMRANGEBYSCORE', key_of('revoked'), '-inf', now)
  for _, name in ipairs(meant) do
    note(key_of('revoked'), name, life)
  end
end
if state and waits then
  finish(id, current, 'REVOKED', expires, 'reason', 'revoked')
  state = 'REVOKED'
elseif state then
  redis.call('HSET', record, 'revoked', '1')
end
for _, name in ipairs(signal ~= '' and meant or {}) do
  note(key_of('terminating'), signal .. ' ' .. name, term)
  redis.call('PUBLISH', key_of('bell'), 'terminate ' .. signal .. ' ' .. name)
end
return state or ''
