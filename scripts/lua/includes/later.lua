-- Messages that are for later: kept by due time until promote.lua moves them.
--
-- A ZSET of names by the moment when they are due (ms), and a hash for each: the message's
-- own fields, and `scheduled_for`, the stream that it goes to then.  A name is the id, with
-- the generation behind it from the second one on.  Not a stream, because
-- what leaves in another order than it came would keep the memory of its neighbours.
--
-- @include keys
-- @include hashes
-- @include names
-- @include streams

-- The hash of a message that is for later.
local function later_key(name)
  return key_of('scheduled', name)
end

-- Keep a message until its moment, under the name of its generation; where that is taken, as
-- without a record it may be, under the next that is free.
-- Whoever sleeps until the first due moment is told if there is an earlier one now.
local function keep_for_later(stream, id, generation, fields, due)
  local scheduled, name = key_of('scheduled'), name_of(id, generation)
  while redis.call('ZSCORE', scheduled, name) do
    generation = string.format('%.0f', tonumber(generation) + 1)
    name = name_of(id, generation)
  end
  write_hash(later_key(name), fields)
  redis.call('HSET', later_key(name), 'id', id, 'scheduled_for', stream)
  redis.call('ZADD', scheduled, due, name)
  if redis.call('ZRANK', scheduled, name) == 0 then
    redis.call('PUBLISH', key_of('bell'), 'due ' .. due)
  end
end

local function drop_later(name)
  redis.call('ZREM', key_of('scheduled'), name)
  redis.call('DEL', later_key(name))
end
