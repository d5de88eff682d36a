-- Dead letters: messages that cannot be run, kept with the reason until a person decides.
--
-- A ZSET of ids by time for each queue, and a hash for each letter: the message's own fields,
-- and those that begin with `dead_`.  The set `dead` names the queues that have letters, also
-- deleted ones.
--
-- @include keys
-- @include now
-- @include wrong_type
-- @include hashes
-- @include messages

local MOST_TRIMMED = 100

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

-- Drop letters that are too old, and the oldest ones beyond `most`.
local function trim_dead(queue, most, life_ms)
  local dead = key_of('dead', queue)
  local oldest = now - life_ms
  local old = redis.call('ZRANGE', dead, '-inf', oldest, 'BYSCORE', 'LIMIT', 0, MOST_TRIMMED)
  local excess = redis.call('ZCARD', dead) - #old - most
  if excess > 0 then
    local last = #old + math.min(excess, MOST_TRIMMED) - 1
    for _, letter in ipairs(redis.call('ZRANGE', dead, #old, last)) do
      old[#old + 1] = letter
    end
  end
  for _, letter in ipairs(old) do
    drop_letter(queue, letter)
  end
end

-- Store a letter that died at `at`.
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

-- Add a message to the dead letters.  `fields` are its own; a second letter of the same id is
-- named ID#2.  Fails before it writes anything if a key of the dead letters has another type.
local function add_dead_letter(queue, id, fields, reason, worker, error, limits)
  local letter, number = id, 1
  need('zset', key_of('dead', queue))
  while redis.call('ZSCORE', key_of('dead', queue), letter) do
    number = number + 1
    letter = id .. '#' .. number
  end
  set_field(fields, 'id', id)
  set_field(fields, 'dead_reason', reason)
  set_field(fields, 'dead_error', error)
  set_field(fields, 'dead_worker', worker)
  set_field(fields, 'dead_at', moment)
  local enqueued = status_of(id, generation_of(fields)) and record_field(id, 'enqueued')
  if enqueued then
    set_field(fields, 'dead_enqueued', enqueued)
  end
  keep_letter(queue, letter, fields, now, limits)
end

-- What `emit` takes for a dead letter, or a copy of one, that is sent again: it begins a
-- generation.  The time to live of its queue does not count: it was sent long ago.
local function sent_again(fields, generation)
  return {
    task = field(fields, 'task') or '',
    priority = number_in(fields, 'priority', 0),
    generation = generation > 1 and string.format('%.0f', generation),
    keep = field(fields, 'ignore_result') ~= '1',
    chosen = true,
    expires = false,
    ageless = true,
  }
end
