#!lua flags=allow-oom
-- Recover what a consumer held: it settles nothing any more, and others run its messages.
--
-- The consumer leaves the lease table first, so that it is fenced from here on.  A message
-- that was running is charged with a crash; one charged too often goes to the dead letters.
-- What was acknowledged early cannot run again: its task fails as WorkerLost.
--
-- Bounded: whoever is answered that more is left calls again.  The consumer is deleted from
-- its groups when it holds nothing.
--
-- KEYS  root of the namespace
-- ARGV  consumer
--       reason                       what happened to it, for records and dead letters
--       charge                       1: the running messages crashed; 0: they were stopped
--       crashes                      how many crashes a message may have, unless it says so
--       expires, most, life          of records (ms), and the bounds of the dead letters
--       budget                       how many messages to move in this call
--       count, then stream and entry of each message that was running
--       then the streams that it read
--
-- Answers {moved, lost, buried, left}: handed back, failed as WorkerLost, dead-lettered,
-- and 1 if there is more to do.
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages
-- @include dead

local consumer, reason, charge = ARGV[1], ARGV[2], ARGV[3] == '1'
local crashes_allowed, expires = tonumber(ARGV[4]), ARGV[5]
local limits = { most = tonumber(ARGV[6]), life_ms = tonumber(ARGV[7]) }
local budget, running_count = tonumber(ARGV[8]), tonumber(ARGV[9])

local running, at = {}, 10
for _ = 1, running_count do
  running[ARGV[at] .. ' ' .. ARGV[at + 1]] = true
  at = at + 2
end
local streams = { unpack(ARGV, at) }

local moved, lost, buried = 0, 0, 0

redis.call('ZREM', key_of('leases'), consumer)

local function fail(id, fields, queue)
  if field(fields, 'ignore_result') == '1' then
    return false
  end
  return finish(
    id, 'FAILURE', expires, 'worker', consumer,
    'error_type', 'streamq.errors.WorkerLost', 'error', reason, 'queue', queue
  )
end

-- Tasks that were acknowledged before they ran.
local function report_lost()
  local marks = redis.call('HGETALL', key_of('started', consumer))
  for i = 1, #marks, 2 do
    local mark = cjson.decode(marks[i + 1])
    local queue, id = queue_of(mark.stream), field(mark.fields, 'id')
    if field(mark.fields, 'ignore_result') == '1' then
      bury(queue, id, mark.fields, 'worker lost', consumer, reason, limits)
      buried = buried + 1
    else
      fail(id, mark.fields, queue)
      lost = lost + 1
    end
  end
  redis.call('DEL', key_of('started', consumer))
end

local function requeue(stream, entry, fields)
  give_back(stream, entry, fields)
  moved = moved + 1
end

-- A hand-typed message may say anything.
local function number_in(fields, name, otherwise)
  return tonumber(field(fields, name) or '') or otherwise
end

local function move(stream, entry)
  local fields = fields_of(stream, entry)
  if not fields then
    take(stream, entry)
    return
  end
  if too_large(fields) then
    local queue, id = queue_of(stream), id_of(stream, entry, fields)
    bury(queue, id, fields, 'too many fields', consumer, reason, limits)
    fail(id, fields, queue)
    take(stream, entry)
    buried = buried + 1
    return
  end
  if not (charge and running[stream .. ' ' .. entry]) then
    return requeue(stream, entry, fields)
  end
  local crashes = number_in(fields, 'crashes', 0) + 1
  set_field(fields, 'crashes', tostring(crashes))
  if crashes < number_in(fields, 'max_deliveries', crashes_allowed) then
    return requeue(stream, entry, fields)
  end
  local queue, id = queue_of(stream), id_of(stream, entry, fields)
  bury(queue, id, fields, 'crashed ' .. crashes .. ' times', consumer, reason, limits)
  fail(id, fields, queue)
  take(stream, entry)
  buried = buried + 1
end

report_lost()

for _, stream in ipairs(streams) do
  local key = key_of('queue', stream)
  local pending = redis.pcall('XPENDING', key, 'workers', '-', '+', budget + 1, consumer)
  if not pending.err then
    for i = 1, math.min(#pending, budget) do
      move(stream, pending[i][1])
    end
    if #pending > budget then
      return { moved, lost, buried, 1 }
    end
    budget = budget - #pending
    redis.call('XGROUP', 'DELCONSUMER', key, 'workers', consumer)
  end
end
redis.call('DEL', key_of('settled', consumer))
return { moved, lost, buried, 0 }
