#!lua
-- Declare schedules: the newest declaration of each counts.
--
-- KEYS  root of the namespace
-- ARGV  source                     code or api
--       order                      the schedule_revision of the code, a whole number
--       then for each schedule:
--       name, revision             two declarations of one revision are equal
--       next                       its first moment from now on (ms), or '' if there is none
--       owed                       the moment that stood there, if it is one of these too (ms),
--                                  else ''; it stays, so that none is lost that nobody has sent
--       count, then as many names and values that describe it
--
-- Answers for each {word, its next moment or '', when it was resumed or '', the text `when` that
-- stood there before or ''}.  Words:
--   same                 it stands there as declared
--   new                  it was not there
--   changed              it was another
--   back                 it was another, and before that as declared now
--   older                Redis holds one of a higher schedule_revision, which stays
--   foreign              Redis holds one of another source, which stays
--   wrong                its key has another type, and is left; the error stands instead of `when`
--
-- @include keys
-- @include now
-- @include wrong_type

local KEPT = {
  'paused', 'resumed', 'last', 'last_id', 'last_late_ms', 'missed', 'skipped', 'failed'
}

local source, order = ARGV[1], ARGV[2]

-- Set the next moment; a paused schedule keeps it for later.
local function set_next(key, name, following, paused)
  if paused and following ~= '' then
    redis.call('HSET', key, 'next', following)
    following = 'inf'
  end
  if following == '' then
    redis.call('ZREM', key_of('schedules'), name)
  else
    redis.call('ZADD', key_of('schedules'), following, name)
  end
end

-- Replace what is declared; what has happened stays.
local function write(key, name, revision, before, following, first, last)
  local values = redis.call('HMGET', key, unpack(KEPT))
  redis.call('DEL', key) -- also its expiry: it may have ended
  redis.call('HSET', key, 'source', source, 'revision', revision, 'order', order)
  redis.call('HSET', key, unpack(ARGV, first, last))
  if before then
    redis.call('HSET', key, 'before', before)
  end
  for i, value in ipairs(values) do
    if value then
      redis.call('HSET', key, KEPT[i], value)
    end
  end
  set_next(key, name, following, values[1])
end

-- Set the next moment, once it has been lost, or there is one again.
local function restore(key, name, following)
  if following ~= '' and tonumber(following) > now then -- else it may have been fired meanwhile
    redis.call('PERSIST', key)
    set_next(key, name, following, redis.call('HGET', key, 'paused'))
    return true
  end
end

need('zset', key_of('schedules'))
local answers, changed, at = {}, false, 3
while ARGV[at] do
  local name, revision, following = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local owed = ARGV[at + 3]
  local first = at + 5
  local last = first + 2 * tonumber(ARGV[at + 4]) - 1
  local key = key_of('schedule', name)
  local found = redis.pcall('HMGET', key, 'revision', 'order', 'before', 'source', 'when')
  local word = 'same'
  if found.err then
    word = 'wrong'
  elseif not found[1] then
    word = 'new'
  elseif (found[4] or 'code') ~= source then
    word = 'foreign'
  elseif found[1] ~= revision then
    word = found[3] == revision and 'back' or 'changed'
    if (tonumber(found[2]) or 0) > tonumber(order) then
      word = 'older'
    end
  end
  if owed ~= '' and redis.call('ZSCORE', key_of('schedules'), name) == owed then
    following = owed
  end
  if word == 'new' or word == 'changed' or word == 'back' then
    write(key, name, revision, found[1], following, first, last)
    changed = true
  elseif word == 'same' then
    redis.call('HDEL', key, 'undeclared')
    if (tonumber(found[2]) or 0) < tonumber(order) then
      redis.call('HSET', key, 'order', order)
    end
    if not redis.call('ZSCORE', key_of('schedules'), name) then
      changed = restore(key, name, following) or changed
    end
  end
  if word == 'wrong' then
    answers[#answers + 1] = { word, '', '', found.err }
  else
    answers[#answers + 1] = {
      word,
      redis.call('ZSCORE', key_of('schedules'), name) or '',
      redis.call('HGET', key, 'resumed') or '',
      found[5] or '',
    }
  end
  at = last + 1
end
if changed then
  redis.call('PUBLISH', key_of('notices'), 'schedules')
end
return answers
