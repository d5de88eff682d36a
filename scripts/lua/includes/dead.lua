-- Dead letters: messages that cannot be run, with the reason, until somebody decides.
--
-- A ZSET of ids by time, and a hash for each: the message's own fields, and those that
-- begin with `dead_`.
--
-- @include keys
-- @include endings
-- @include messages

local TRIMMED_AT_ONCE = 100

local function letter_key(queue, letter)
  return key_of('dead', queue .. ':' .. letter)
end

local function drop_letter(queue, letter)
  redis.call('ZREM', key_of('dead', queue), letter)
  redis.call('DEL', letter_key(queue, letter))
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

-- Bury a message.  `fields` are its own; a second letter of the same id keeps its own place.
local function bury(queue, id, fields, reason, worker, error, limits)
  local letter, twin = id, 1
  while redis.call('ZSCORE', key_of('dead', queue), letter) do
    twin = twin + 1
    letter = id .. '#' .. twin
  end
  set_field(fields, 'id', id)
  local key = letter_key(queue, letter)
  for at = 1, #fields, 1000 do
    redis.call('HSET', key, unpack(fields, at, math.min(at + 999, #fields)))
  end
  redis.call(
    'HSET', key, 'dead_reason', reason, 'dead_error', error, 'dead_worker', worker, 'dead_at', moment
  )
  local enqueued = redis.call('HGET', key_of('task', id), 'enqueued')
  if enqueued then
    redis.call('HSET', key, 'dead_enqueued', enqueued)
  end
  redis.call('PEXPIRE', key, limits.life_ms)
  redis.call('ZADD', key_of('dead', queue), moment, letter)
  redis.call('PEXPIRE', key_of('dead', queue), limits.life_ms)
  trim_dead(queue, limits.most, limits.life_ms)
end
