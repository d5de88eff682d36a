#!lua flags=allow-oom
-- Hand back a message that its task has rejected: to the front of its queue, without a crash
-- counted, at once or after a pause.  The message carries how often that has happened.
-- A task that was revoked while it ran ends instead.
--
-- KEYS  root of the namespace
-- ARGV  consumer, expires (of records, ms), stream, entry
--       rejections                   how often its task has rejected it, this time included
--       pause                        milliseconds until it is put into its queue again
--
-- Answers 1 if it was handed back, else 0.  Refuses with  FENCED consumer
--
-- @include keys
-- @include finish
-- @include messages
-- @include requeue

local consumer, expires, stream, entry, rejections, pause = unpack(ARGV)

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local fields = fields_of(stream, entry)
local held = redis.call('XPENDING', key_of('queue', stream), 'workers', entry, entry, 1, consumer)[1]
if not held or not fields or too_large(fields) then
  return 0
end

local id, generation = id_of(stream, entry, fields), generation_of(fields)
if was_revoked(id, fields) then
  ack_and_delete(stream, entry)
  local life = life_of(fields, expires)
  local ended = with_generation(generation) -- its record is there, and ends
  finish(id, ended, 'REVOKED', life, 'worker', consumer, 'reason', 'revoked')
  return 0
end

set_field(fields, 'rejections', rejections)
if pause == '0' then
  hand_back(stream, entry, fields)
  return 1
end

local due = string.format('%.0f', now + tonumber(pause))
schedule_again(front_of(stream), id, fields, due)
ack_and_delete(stream, entry)
show_waiting(id, generation)
show_due(id, generation, due)
return 1
