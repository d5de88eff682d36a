#!lua flags=allow-oom
-- Replace a stream that is out of ids by a new one with everything that it holds.
--
-- Entries keep their ids, and the consumers that hold them keep them and settle them as before.
-- Only entries with the last ids are added anew.  While a worker holds one of these nothing is
-- done: it would run twice.
--
-- Bounded: at most `limit` waiting messages are moved as a whole.  If there are more, the oldest
-- ones first go to the other stream of the queue, and the caller calls again.  If the other
-- stream is out of ids too, everything is moved at once.
--
-- KEYS  root of the namespace
-- ARGV  stream, the other one        short names, such as default and default:returned; no
--                                    other one is ''
--       limit                        how many waiting messages to move at once
--
-- Answers {word, number}:
--   fine   0                         it has ids left, or is not there
--   more   moved                     so many went to the other stream; call again
--   fresh  kept                      so many are in a fresh stream
-- Refuses with
--   HELD consumer                    it holds a message with one of the last ids
--   TOOLARGE entry                   a message has more fields than a script can add
--
-- @include keys
-- @include now
-- @include ids
-- @include messages
-- @include streams

local stream, other, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key, fresh = key_of('queue', stream), key_of('queue', stream .. ':fresh')

-- Milliseconds of an id that no clock reaches.
local LAST = '1000000000000000'

local function is_last(id)
  return #string.match(id, '^%d+') >= #LAST
end

-- Whether an id comes before another.  Compared as text: the numbers are too large for Lua.
local function is_before(one, two)
  local ms, seq = string.match(one, '(%d+)-(%d+)')
  local ms_two, seq_two = string.match(two, '(%d+)-(%d+)')
  if #ms ~= #ms_two or ms ~= ms_two then
    return #ms < #ms_two or (#ms == #ms_two and ms < ms_two)
  end
  return #seq < #seq_two or (#seq == #seq_two and seq < seq_two)
end

local about = redis.pcall('XINFO', 'STREAM', key)
if about.err or not is_last(field(about, 'last-generated-id')) then
  return { 'fine', 0 }
end

-- The id of the newest entry that was read; and the entries that are pending, oldest first.
local function read_position()
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    if field(group, 'name') == 'workers' then
      local most = field(group, 'pending')
      local held = most > 0 and redis.call('XPENDING', key, 'workers', '-', '+', most) or {}
      return field(group, 'last-delivered-id'), held
    end
  end
  return '0-0', {}
end

local delivered, held = read_position()

-- An entry with a last id that a dead consumer holds is added anew, as recovery would do.
local holder_of = {}
for _, each in ipairs(held) do
  if not is_last(each[1]) then
    holder_of[each[1]] = each
  elseif redis.call('ZSCORE', key_of('leases'), each[2]) then
    return redis.error_reply('HELD ' .. each[2])
  end
end

local function added(fields, entry)
  if too_large(fields) then
    error({ err = 'TOOLARGE ' .. entry })
  end
  set_field(fields, 'id', id_of(stream, entry, fields))
  return fields
end

local waiting = redis.call('XLEN', key) - #held
if waiting > limit and other ~= '' and not stream_is_out_of_ids(key_of('queue', other)) then
  make_group(key_of('queue', other))
  local oldest = redis.call('XRANGE', key, '(' .. delivered, '+', 'COUNT', limit)
  for _, each in ipairs(oldest) do
    redis.call('XADD', key_of('queue', other), '*', unpack(added(each[2], each[1])))
    redis.call('XDEL', key, each[1])
  end
  if oldest[1] then
    return { 'more', #oldest }
  end
end

-- The fields of each entry by its id; false for one that is pending and was deleted.
local fields_by, ids = {}, {}
for id in pairs(holder_of) do
  fields_by[id], ids[#ids + 1] = false, id
end
for _, each in ipairs(redis.call('XRANGE', key, '-', '+')) do
  if fields_by[each[1]] == nil then
    ids[#ids + 1] = each[1]
  end
  fields_by[each[1]] = each[2]
end
table.sort(ids, is_before)

-- The fresh stream is filled under a key of its own, and renamed at the end.
redis.call('DEL', fresh)
make_group(fresh)
local newest = is_last(delivered) and '0-0' or delivered
local seen, anew = newest, {}
for _, id in ipairs(ids) do
  local fields, owner = fields_by[id], holder_of[id]
  if is_last(id) then
    anew[#anew + 1] = added(fields, id)
  elseif fields and too_large(fields) then
    error({ err = 'TOOLARGE ' .. id })
  else
    redis.call('XADD', fresh, id, unpack(fields or { 'deleted', '1' }))
    newest = is_before(newest, id) and id or newest
  end
  if owner then -- its consumer goes on holding it under the same id
    redis.call(
      'XCLAIM', fresh, 'workers', owner[2], 0, id, 'IDLE', owner[3], 'RETRYCOUNT', owner[4], 'FORCE',
      'JUSTID'
    )
    seen = is_before(seen, id) and id or seen
  end
  if owner and not fields then
    redis.call('XDEL', fresh, id)
  end
end

-- No id is used a second time: a consumer that held it could settle the new message.
local after = string.format('%.0f-0', now + 1)
redis.call('XSETID', fresh, is_before(newest, after) and after or newest)
redis.call('XGROUP', 'SETID', fresh, 'workers', is_last(delivered) and seen or delivered)
for _, fields in ipairs(anew) do
  redis.call('XADD', fresh, '*', unpack(fields))
end
redis.call('RENAME', fresh, key)
return { 'fresh', redis.call('XLEN', key) }
