#!lua flags=allow-oom
-- Start tasks: acknowledge those that are acknowledged early, and say STARTED in the records.
--
-- An early message leaves its queue here, before it runs; a mark keeps it in sight until it
-- is settled, so that the death of its runner is reported.  A repeated call answers the same.
--
-- KEYS  root of the namespace
-- ARGV  consumer, then for each message:
--       ack (early or late), stream, entry, id ('' to leave the record alone)
--
-- Answers a text of 1 (run it) and 0 (it is not yours any more), one for each message.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages

local consumer = ARGV[1]

if not redis.call('ZSCORE', keys.leases, consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local marks = keys.started(consumer)

-- Acknowledge and mark.  An entry that has its mark was started by this call before.
local function leave_queue(stream, entry)
  local fields = fields_of(stream, entry)
  if fields and take(stream, entry) then
    set_field(fields, 'id', id_of(stream, entry, fields))
    redis.call('HSET', marks, entry, cjson.encode({ stream = stream, fields = fields }))
    return true
  end
  return redis.call('HEXISTS', marks, entry) == 1
end

local function say_started(id)
  local record = keys.task(id)
  local state = redis.call('HGET', record, 'state')
  if not state or state == 'QUEUED' then
    redis.call('HSET', record, 'state', 'STARTED', 'started', now, 'worker', consumer)
    redis.call('PERSIST', record)
  end
end

local answer = {}
for at = 2, #ARGV, 4 do
  local ack, stream, entry, id = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local mine = ack == 'late' or leave_queue(stream, entry)
  if mine and id ~= '' then
    say_started(id)
  end
  answer[#answer + 1] = mine and 1 or 0
end
return table.concat(answer)
