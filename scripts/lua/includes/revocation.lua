-- Revoke a task, as revoke.lua says.
--
-- @include keys
-- @include finish
-- @include scheduled
-- @include generations

local MOST_GENERATIONS = 20 -- names of one id that are looked up in `scheduled`

-- Add a member to a ZSET for `lasts` ms; the key lives as long as its last member.
local function add_expiring(key, member, lasts)
  redis.call('ZADD', key, now + tonumber(lasts), member)
  if redis.call('PTTL', key) < tonumber(lasts) then
    redis.call('PEXPIRE', key, lasts)
  end
end

-- The names of the messages of an id with generations from `first` to `last`.
local function names_from(id, first, last)
  local names = {}
  for number = first, last do
    names[#names + 1] = name_of(id, string.format('%.0f', number))
  end
  return names
end

-- Remove the scheduled messages of an id; returns how many there were.
local function drop_all_scheduled(id, state, current)
  local first, dropped = state and tonumber(current) or 1, 0
  for _, name in ipairs(names_from(id, first, first + MOST_GENERATIONS - 1)) do
    local there = redis.call('ZSCORE', key_of('scheduled'), name)
    local generation = there and redis.call('HGET', scheduled_key(name), 'generation')
    if there and (not state or generation_in(generation) == current) then
      drop_scheduled(name)
      dropped = dropped + 1
    end
  end
  return dropped
end

-- Revoke a task; returns the state that it has now, '' if it has no record.
--
-- `how` has the arguments of revoke.lua after the id: expires, life, signal, term.
local function revoke(id, how)
  local record = key_of('task', id)
  local found = redis.call('HMGET', record, 'state', 'generation', 'finished')
  local state, current = found[1], found[2] or '1'
  if not state then
    current = string.format('%.0f', generations().number_of(id))
  end
  if FINAL[state] or (state and found[3]) then
    return state
  end
  local last = tonumber(current)
  local names = names_from(id, state and last or 1, last)
  local waits = not state or is_waiting(state)
  local later = drop_all_scheduled(id, state, current)
  -- If the record does not say QUEUED, the scheduled message was the only one; without a record
  -- that is so for the first generation alone, as a second message of the id may exist.
  local was_scheduled = later == 1 and (state or last == 1) and state ~= 'QUEUED'
  if waits and not was_scheduled then
    redis.call('ZREMRANGEBYSCORE', key_of('revoked'), '-inf', now)
    for _, name in ipairs(names) do
      add_expiring(key_of('revoked'), name, how.life)
    end
  end
  if state and waits then
    finish(id, with_generation(current), 'REVOKED', how.expires, 'reason', 'revoked')
    state = 'REVOKED'
  elseif state then
    redis.call('HSET', record, 'revoked', '1')
  end
  for _, name in ipairs(how.signal ~= '' and names or {}) do
    add_expiring(key_of('terminating'), how.signal .. ' ' .. name, how.term)
    redis.call('PUBLISH', key_of('notices'), 'terminate ' .. how.signal .. ' ' .. name)
  end
  return state or ''
end
