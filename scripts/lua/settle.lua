#!lua flags=allow-oom
-- Settle messages whose tasks have ended, with whatever follows: a message that is tried
-- again, one that goes to the dead letters, one that expired.
--
-- All of it or nothing: acknowledging, deleting, the result and what follows are one act.
-- What follows never fails its settlement: it ignores limits, and becomes a dead letter if
-- it leads nowhere.
--
-- A consumer that was declared dead settles nothing.  A call that is repeated after its
-- answer was lost gets the answer that it got.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             whose how-manieth settlement this is
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then for each message:
--       ack                          late: to be acknowledged now; early: it was before
--       stream                       such as default, default:p9, default:returned
--       entry, id
--       state                        SUCCESS, FAILURE, REVOKED, RETRY …, or '' to leave the
--                                    record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       count of names and values, then as many for the record
--       count of words, then what follows, if anything:
--         bury REASON ERROR          to the dead-letter exchange, else to the dead letters
--         expire REASON ERROR        to the dead-letter exchange, if there is one
--         later DUE QUEUE NAME VALUE …   again, at this moment (+MS from now, or MS since
--                                    1970), in this queue ('' for its own), with these fields
--         revoked                    the revocation has been met, and is forgotten
--
-- Answers a text of 1 (settled) and 0 (was not yours any more), one for each message.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages
-- @include dead
-- @include dead_letter
-- @include later

local MEMORY_MS = 600000 -- a lost answer is asked for again within seconds, or never

local consumer, number = ARGV[1], ARGV[2]
local limits = { most = tonumber(ARGV[3]), life_ms = tonumber(ARGV[4]) }

local memory = redis.call('GET', key_of('settled', consumer))
if memory then
  local last, answer = string.match(memory, '^(%S+) (.*)$')
  if last == number then
    return answer
  end
end
if not redis.call('ZRANK', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local marks = key_of('started', consumer)

-- The fields of a message, while they can still be read.
local function last_look(early, stream, entry)
  if not early then
    return fields_of(stream, entry)
  end
  local mark = redis.call('HGET', marks, stream .. ' ' .. entry)
  return mark and cjson.decode(mark).fields
end

-- A task that is to run again says why; it has not ended, so nobody is told.
-- False if it has ended meanwhile: it was revoked.
local function postpone(id, state, ...)
  local record = key_of('task', id)
  local before, revoked = unpack(redis.call('HMGET', record, 'state', 'revoked'))
  if FINAL[before] or revoked then
    return false
  end
  if state ~= '' and before then
    redis.call('HSET', record, 'state', state, 'worker', consumer, ...)
    redis.call('HDEL', record, 'started', 'meta', 'meta_content_type')
    redis.call('PERSIST', record)
  elseif before then
    show_waiting(id)
  end
  return true
end

-- A moment: +MS from now, or MS since 1970.
local function moment_of(text)
  return string.sub(text, 1, 1) == '+' and now + tonumber(string.sub(text, 2)) or tonumber(text)
end

-- At once in its own queue; else promote.lua moves it, and buries it if the queue is gone.
local function again(stream, id, fields, words)
  local due, queue = moment_of(words[2]), words[3] ~= '' and words[3] or queue_of(stream)
  fields = without(fields, { stale = true }) -- it has not waited in vain: it was run
  set_field(fields, 'id', id)
  for i = 4, #words, 2 do
    local value = words[i + 1]
    if words[i] == 'expires' then
      value = string.format('%.0f', moment_of(value))
    end
    set_field(fields, words[i], value)
  end
  local home = home_of(queue, fields)
  local declared = redis.call('HEXISTS', key_of('queues'), queue) == 1
  if due <= now and words[3] == '' and declared then
    redis.call('XADD', key_of('queue', home), '*', unpack(fields))
    return
  end
  local eta = string.format('%.0f', due)
  set_field(fields, 'eta', eta)
  keep_for_later(home, id, fields, eta)
  if redis.call('EXISTS', key_of('task', id)) == 1 then
    redis.call('HSET', key_of('task', id), 'eta', eta, 'queue', queue)
  end
end

local function follow(early, stream, id, state, expires, record, fields, words)
  local verb = words[1]
  if verb == 'later' then
    if not postpone(id, state, unpack(record)) then
      finish(id, 'REVOKED', expires, 'worker', consumer, 'reason', 'revoked')
    elseif fields then
      again(stream, id, fields, words)
    end
    return
  end
  if fields and (verb == 'bury' or verb == 'expire') then
    local kept = verb == 'bury'
    dead_letter(queue_of(stream), id, fields, words[2], consumer, words[3], limits, kept)
  end
  if state ~= '' then
    finish(id, state, expires, 'worker', consumer, unpack(record))
  elseif tonumber(expires) > 0 then
    leave(id, expires, consumer)
  end
  if verb == 'revoked' then
    redis.call('ZREM', key_of('revoked'), id)
  end
end

-- So many values of ARGV, from a position on that holds their count; and the next position.
local function taken(at, each)
  local last = at + each * tonumber(ARGV[at])
  return { unpack(ARGV, at + 1, last) }, last + 1
end

local answer, at = {}, 5
while at <= #ARGV do
  local early, stream, entry, id = ARGV[at] == 'early', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local state, expires = ARGV[at + 4], ARGV[at + 5]
  local record, words
  record, at = taken(at + 6, 2)
  words, at = taken(at, 1)
  local fields, mine = words[1] and last_look(early, stream, entry), nil
  if early then
    mine = redis.call('HDEL', marks, stream .. ' ' .. entry) == 1
  else
    mine = take(stream, entry)
  end
  if mine then
    follow(early, stream, id, state, expires, record, fields, words)
  end
  answer[#answer + 1] = mine and 1 or 0
end

-- Last, so that a call that failed half-way is not taken for one that was answered.
local text = table.concat(answer)
redis.call('SET', key_of('settled', consumer), number .. ' ' .. text, 'PX', MEMORY_MS)
return text
