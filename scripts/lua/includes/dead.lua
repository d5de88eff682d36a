-- Dead letters: messages that cannot be run, with the reason, until somebody decides.
--
-- A ZSET of ids by time, and a hash for each: the message's own fields, and those that
-- begin with `dead_`.  The set `dead` names the queues that have any, deleted ones included.
--
-- @include keys
-- @include endings
-- @include foreign
-- @include hashes
-- @include messages

local TRIMMED_AT_ONCE = 100

local function letter_key(queue, letter)
  return key_of('dead', queue .. ':' .. letter)
end

local function drop_letter(queue, letter)
  redis.call('ZREM', key_of('dead', queue), letter)
  redis.call('DEL', letter_key(queue, letter))
  if redis.call('EXISTS', key_of('dead', queue)) == 0 then
    redis.call('SREM', key_of('dead'), queue)
  end
end

-- Keep the store within its bounds: the oldest letters go first.
local function trim_dead(queue, most, life_ms)
  local dead = key_of('dead', queue)
  local old = redis.call('ZRANGE', dead, '-inf', now - life_ms, 'BYSCORE', 'LIMIT', 0, TRIMMED_AT_ONCE)
  local excess = redis.call('ZCARD', dead) - #old - most
  if excess > 0 then
    local last = #old + math.min(excess, TRIMMED_AT_ONCE) - 1
    for _, letter in ipairs(redis.call('ZRANGE', dead, #old, last)) do
      old[#old + 1] = letter
    end
  end
  for _, letter in ipairs(old) do
    drop_letter(queue, letter)
  end
end

-- Keep a letter that died at `at`.
local function keep_letter(queue, letter, fields, at, limits)
  local key, dead = letter_key(queue, letter), key_of('dead', queue)
  need('hash', key)
  need('set', key_of('dead'))
  write_hash(key, fields)
  redis.call('PEXPIRE', key, string.format('%.0f', at + limits.life_ms - now))
  redis.call('ZADD', dead, string.format('%.0f', at), letter)
  redis.call('SADD', key_of('dead'), queue)
  redis.call('PEXPIRE', dead, limits.life_ms)
  redis.call('PEXPIRE', key_of('dead'), limits.life_ms)
  trim_dead(queue, limits.most, limits.life_ms)
end

-- Bury a message.  `fields` are its own; a second letter of the same id keeps its own place.
-- Fails before it writes anything where a key of the dead letters holds something else.
local function bury(queue, id, fields, reason, worker, error, limits)
  local letter, twin = id, 1
  need('zset', key_of('dead', queue))
  while redis.call('ZSCORE', key_of('dead', queue), letter) do
    twin = twin + 1
    letter = id .. '#' .. twin
  end
  set_field(fields, 'id', id)
  set_field(fields, 'dead_reason', reason)
  set_field(fields, 'dead_error', error)
  set_field(fields, 'dead_worker', worker)
  set_field(fields, 'dead_at', moment)
  local enqueued = standing(id, generation_of(fields)) and recorded(id, 'enqueued')
  if enqueued then
    set_field(fields, 'dead_enqueued', enqueued)
  end
  keep_letter(queue, letter, fields, now, limits)
end
