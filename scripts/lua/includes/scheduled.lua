-- Scheduled messages: kept by due time until promote.lua moves them.
--
-- A ZSET of names by the moment when they are due (ms), and a hash for each: the message's
-- own fields, and `scheduled_for`, the stream that it goes to then.  A name is the id, with
-- `::N` behind it from the second generation on.  It is not a stream, because a stream whose
-- entries leave in another order than they came keeps the memory of deleted ones.
--
-- @include keys
-- @include now
-- @include hashes
-- @include names

-- A moment, in milliseconds: '' (false), MS since 1970, or +MS from now.  Nil for another text.
local function moment_of(text)
  if text == '' then
    return false
  end
  local from_now, digits = string.match(text or '', '^(%+?)(%d+)$')
  if digits and #digits < 16 then
    return tonumber(digits) + (from_now == '+' and now or 0)
  end
end

-- The key of a scheduled message's hash.
local function scheduled_key(name)
  return key_of('scheduled', name)
end

-- Schedule a message under the name of its generation; if that name is taken, which is possible
-- without a record, under the next free one.
-- Supervisors sleep until the first due moment: they get a notice if there is an earlier one now.
local function schedule(stream, id, generation, fields, due)
  local scheduled, name = key_of('scheduled'), name_of(id, generation)
  while redis.call('ZSCORE', scheduled, name) do
    generation = string.format('%.0f', tonumber(generation) + 1)
    name = name_of(id, generation)
  end
  write_hash(scheduled_key(name), fields)
  redis.call('HSET', scheduled_key(name), 'id', id, 'scheduled_for', stream)
  redis.call('ZADD', scheduled, due, name)
  if redis.call('ZRANK', scheduled, name) == 0 then
    redis.call('PUBLISH', key_of('notices'), 'due ' .. due)
  end
end

local function drop_scheduled(name)
  redis.call('ZREM', key_of('scheduled'), name)
  redis.call('DEL', scheduled_key(name))
end
