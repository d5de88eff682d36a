#!lua flags=allow-oom
-- Settle messages whose tasks have ended: acknowledge, delete, keep what came of them.
-- In the same call, acknowledge messages that are to be acknowledged before they run.
--
-- Such an early message leaves its queue here; a mark keeps it in sight until it is
-- settled, so that the death of its runner is reported.
--
-- A consumer that was declared dead settles nothing.  A call that is repeated after its
-- answer was lost gets the answer that it got.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             whose how-manieth settlement this is
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then for each stream that messages came from:
--       ack                          late: to be acknowledged now; early: it was before its
--                                    run; start: it is to run next
--       stream                       such as default, default:p9, default:returned
--       count, then for each message:
--       entry
--       for one to start, its mark   JSON of {stream, fields}, where fields are names and
--                                    values, the id among them; for others
--       id
--       state                        SUCCESS, FAILURE …, or '' to leave the record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       reason                       why it goes to the dead letters, or ''
--       count of names and values, then as many for the record; where there is a reason,
--       the last value says what went wrong
--
-- Answers a text of 1 (settled, or run it) and 0 (was not yours any more), one for each
-- message.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages
-- @include dead

local MEMORY_MS = 600000 -- a lost answer is asked for again within seconds, or never

local consumer, number = ARGV[1], ARGV[2]
local limits = { most = tonumber(ARGV[3]), life_ms = tonumber(ARGV[4]) }

local memory = redis.call('GET', key_of('settled', consumer))
if memory then
  local last, answer = string.match(memory, '^(%d+) (.*)$')
  if last == number then
    return answer
  end
end
if not redis.call('ZRANK', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local marks = key_of('started', consumer)

-- Entries of different streams may have the same id: one script added them.
local function mark_of(stream, entry)
  return stream .. ' ' .. entry
end

-- The fields of a message that is to be buried, while they can still be read.
local function last_look(early, stream, entry)
  if not early then
    return fields_of(stream, entry)
  end
  local mark = redis.call('HGET', marks, mark_of(stream, entry))
  return mark and cjson.decode(mark).fields
end

local answer = {}

local function settle(early, stream, key, at)
  local entry, id, state, reason = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local letter = reason ~= '' and last_look(early, stream, entry)
  local mine
  if early then
    mine = redis.call('HDEL', marks, mark_of(stream, entry))
  else
    mine = redis.call('XACK', key, 'workers', entry)
  end
  local from, to = at + 6, at + 5 + 2 * tonumber(ARGV[at + 5])
  if mine == 1 then
    if letter then
      bury(queue_of(stream), id, letter, reason, consumer, ARGV[to], limits)
    end
    if state ~= '' then
      finish(id, state, ARGV[at + 3], 'worker', consumer, unpack(ARGV, from, to))
    elseif tonumber(ARGV[at + 3]) > 0 then
      leave(id, ARGV[at + 3], consumer)
    end
  end
  answer[#answer + 1] = mine
  return mine == 1, to + 1
end

local function start(stream, key, entry, mark)
  local mine = redis.call('XACK', key, 'workers', entry)
  if mine == 1 then
    redis.call('HSET', marks, mark_of(stream, entry), mark)
  end
  answer[#answer + 1] = mine
  return mine == 1
end

local at = 5
while at <= #ARGV do
  local ack, stream, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local key, done, mine, entry = key_of('queue', stream), {}, nil, nil
  at = at + 3
  for _ = 1, count do
    entry = ARGV[at]
    if ack == 'start' then
      mine, at = start(stream, key, entry, ARGV[at + 1]), at + 2
    else
      mine, at = settle(ack == 'early', stream, key, at)
    end
    if mine and ack ~= 'early' then
      done[#done + 1] = entry
    end
  end
  if done[1] then
    redis.call('XDEL', key, unpack(done))
  end
end

-- Last, so that a call that failed half-way is not taken for one that was answered.
local text = table.concat(answer)
redis.call('SET', key_of('settled', consumer), number .. ' ' .. text, 'PX', MEMORY_MS)
return text
