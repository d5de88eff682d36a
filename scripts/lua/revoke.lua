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
-- @include keys
-- @include finish
-- @include scheduled
-- @include generations

local MOST_GENERATIONS = 20 -- names of one id that are looked up in `scheduled`

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

-- Add a member to a ZSET for `lasts` ms; the key lives as long as its last member.
local function add_expiring(key, member, lasts)
  redis.call('ZADD', key, now + tonumber(lasts), member)
  if redis.call('PTTL', key) < tonumber(lasts) then
    redis.call('PEXPIRE', key, lasts)
  end
end

-- The names of the messages of this id with generations from `first` to `last`.
local function names_from(first, last)
  local names = {}
  for number = first, last do
    names[#names + 1] = name_of(id, string.format('%.0f', number))
  end
  return names
end

-- Remove its scheduled messages; returns how many there were.
local function drop_all_scheduled()
  local first, dropped = state and tonumber(current) or 1, 0
  for _, name in ipairs(names_from(first, first + MOST_GENERATIONS - 1)) do
    local there = redis.call('ZSCORE', key_of('scheduled'), name)
    local generation = there and redis.call('HGET', scheduled_key(name), 'generation')
    if there and (not state or generation_in(generation) == current) then
      drop_scheduled(name)
      dropped = dropped + 1
    end
  end
  return dropped
end

local last = tonumber(current)
local names = names_from(state and last or 1, last)
local waits = not state or is_waiting(state)
local later = drop_all_scheduled()
-- If the record does not say QUEUED, the scheduled message was the only one; without a record
-- that is so for the first generation alone, as a second message of the id may exist.
local was_scheduled = later == 1 and (state or last == 1) and state ~= 'QUEUED'
if waits and not was_scheduled then
  redis.call('ZREMRANGEBYSCORE', key_of('revoked'), '-inf', now)
  for _, name in ipairs(names) do
    add_expiring(key_of('revoked'), name, life)
  end
end
if state and waits then
  finish(id, with_generation(current), 'REVOKED', expires, 'reason', 'revoked')
  state = 'REVOKED'
elseif state then
  redis.call('HSET', record, 'revoked', '1')
end
for _, name in ipairs(signal ~= '' and names or {}) do
  add_expiring(key_of('terminating'), signal .. ' ' .. name, term)
  redis.call('PUBLISH', key_of('notices'), 'terminate ' .. signal .. ' ' .. name)
end
return state or ''
