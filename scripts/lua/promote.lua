#!lua flags=allow-oom
-- Move the messages that are due into their queues, the first due first.
--
-- Bounded: if as many as the limit were due, the caller calls again.  A message that has
-- expired ends as REVOKED; one whose queue was deleted becomes a dead letter.  A message that
-- cannot be moved, because a key that it needs has another type, stays, and is tried again
-- after a pause.
--
-- KEYS  root of the namespace
-- ARGV  limit, expires (of records, ms)
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--
-- Answers {moved, moment of the next due message or '', server's time, and as one list the
-- name of each message that could not be moved and why}.
--
-- @include keys
-- @include finish
-- @include messages
-- @include requeue
-- @include dead_letter
-- @include scheduled

local PAUSE_MS = 30000 -- before a message that could not be moved is tried again

local limit, life = tonumber(ARGV[1]), ARGV[2]
local limits = { most = tonumber(ARGV[3]), life_ms = tonumber(ARGV[4]) }
local scheduled = key_of('scheduled')

-- Move a message to its queue, or end its task.
local function move(fields)
  local id, stream = field(fields, 'id'), field(fields, 'scheduled_for')
  local queue = queue_of(stream)
  fields = without(fields, { scheduled_for = true })
  local expires = number_in(fields, 'expires', math.huge)
  if expires <= now then
    dead_letter(queue, id, fields, 'expired', '', 'it expired before it was due', limits, false)
    finish(id, fields, 'REVOKED', life_of(fields, life), 'reason', 'expired')
  elseif redis.call('HEXISTS', key_of('queues'), queue) == 0 then
    dead_letter(queue, id, fields, 'queue gone', '', 'its queue was deleted', limits, true)
    finish(id, fields, 'FAILURE', life_of(fields, life), 'error_type', 'streamq.errors.Unroutable',
      'error', 'the queue ' .. queue .. ' was deleted before the task was due')
  elseif too_large(fields) then
    local why = 'too many fields'
    dead_letter(queue, id, fields, why, '', why, limits, true)
    finish(id, fields, 'FAILURE', life_of(fields, life), 'error_type', 'streamq.errors.DecodeError',
      'error', why)
  elseif field(fields, 'rejections') and stream == front_of(stream) then
    add_in_front(stream, fields) -- its task has rejected it
    show_promoted(id, generation_of(fields))
  else
    -- the queue may have fewer levels by now than when the message was sent
    local level = string.match(stream, ':p(%d)$') or '0'
    local home = home_of(queue, { 'priority', level })
    add_message(home, fields)
    show_promoted(id, generation_of(fields))
  end
end

-- Move a scheduled message and remove its hash.  A failure leaves it scheduled.
local function promote(name)
  local fields = redis.call('HGETALL', scheduled_key(name))
  if fields[1] then
    move(fields)
  end
  drop_scheduled(name)
end

need('zset', scheduled)
local due = redis.call('ZRANGE', scheduled, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
local moved, failed = 0, {}
for _, name in ipairs(due) do
  local fine, why = pcall(promote, name)
  if fine then
    moved = moved + 1
  else
    redis.call('ZADD', scheduled, now + PAUSE_MS, name)
    failed[#failed + 1] = name
    failed[#failed + 1] = reason_of(why)
  end
end

local next_one = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')
return { moved, next_one[2] or '', now, failed }
