#!lua flags=allow-oom
-- Hand back messages that were read and not run: to the front of their queues, without a crash
-- counted.  A task that was revoked while it ran ends instead; so does one whose message was
-- acknowledged early, has not started, and whose queue was deleted.
--
-- KEYS  root of the namespace
-- ARGV  consumer, expires (of records, ms)
--       then for each message:
--       ack                          late: it is still to be acknowledged; early: it was
--                                    acknowledged, and its mark holds its fields
--       stream, entry
--
-- Answers how many were handed back.  Refuses with  FENCED consumer
--
-- @include keys
-- @include finish
-- @include messages
-- @include requeue

local consumer, expires = ARGV[1], ARGV[2]
local marks = key_of('started', consumer)

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

-- The fields of a message that this consumer holds; nil or false if it does not.
local function held(ack, stream, entry)
  if ack == 'early' then
    local mark = redis.call('HGET', marks, stream .. ' ' .. entry)
    return mark and cjson.decode(mark).fields
  end
  local fields = fields_of(stream, entry)
  local pending = redis.call('XPENDING', key_of('queue', stream), 'workers', entry, entry, 1, consumer)
  return fields and pending[1] and not too_large(fields) and fields
end

local function remove_held(ack, stream, entry)
  if ack == 'early' then
    redis.call('HDEL', marks, stream .. ' ' .. entry)
  else
    ack_and_delete(stream, entry)
  end
end

-- Hand back one message; false if its task was ended instead.
local function release(ack, stream, entry, fields)
  local id = id_of(stream, entry, fields)
  local queue = queue_of(stream)
  local queue_deleted = ack == 'early' and redis.call('HEXISTS', key_of('queues'), queue) == 0
  if was_revoked(id, fields) or queue_deleted then
    remove_held(ack, stream, entry)
    local life = life_of(fields, expires)
    local why = queue_deleted and 'deleted' or 'revoked'
    local ended = with_generation(generation_of(fields)) -- also where no result is kept
    finish(id, ended, 'REVOKED', life, 'worker', consumer, 'reason', why)
    return false
  end
  set_field(fields, 'id', id)
  add_in_front(front_of(stream), fields)
  remove_held(ack, stream, entry)
  show_waiting(id, generation_of(fields))
  return true
end

local released = 0
for at = 3, #ARGV, 3 do
  local ack, stream, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local fields = held(ack, stream, entry)
  if fields and release(ack, stream, entry, fields) then
    released = released + 1
  end
end
return released
