#!lua flags=allow-oom
-- Recover the messages of a dead consumer: put them back into their queues, or end their tasks.
--
-- A consumer that another worker recovers may still be alive.  Its lease is removed first, so
-- that it is fenced from here on.  Of the workers that saw the same lease only the first is let
-- in: the second would charge it with what the first has handed back and it has read again.
-- Its own supervisor knows that it is dead, and keeps the lease until nothing is left: other
-- workers would not know which message was running.
--
-- A message that was running has one crash more.  If nothing ran beside it and it has crashed
-- too often, it becomes a dead letter.  If others ran beside it, each of them is only
-- suspected: one that is suspected too often goes to the quarantine stream, to run once more
-- as the sole task of a runner; only a crash there makes it a dead letter.  A message that was
-- acknowledged early cannot run again: its task fails as WorkerLost.
--
-- Bounded: if the answer says that more is left, the caller calls again.  The consumer is
-- deleted from its groups when it holds nothing.  A message that cannot be moved, because a
-- key that it needs has another type, stays with the consumer, and everything else is moved
-- first.  It is tried again at each call, and does not count.
--
-- KEYS  root of the namespace
-- ARGV  consumer
--       claim                        '' from its own supervisor; from other workers the
--                                    deadline that they saw in the lease table; 'none' if they
--                                    saw none, or have ended the lease themselves
--       expected, tolerance          the server's time that the caller expects, '' for none:
--                                    if the clock differs by more, nothing is done
--       reason                       what happened to it, for records and dead letters
--       blame                        sole_task: the running message crashed, and nothing ran
--                                    beside it; suspected: one of the running messages
--                                    crashed; none: they were stopped; kept: their outcomes
--                                    are still to be settled in the consumer's name, so they
--                                    stay, and so does its lease
--       crashes                      how many crashes a message may have, unless it says so
--       expires, most, life          of records (ms), and the bounds of the dead letters
--       budget                       how many messages to move in this call
--       count, then stream and entry of each message that was running; '*' if that is not
--       known: then everything that it held counts as running
--       then the streams that it can have read, by their short names; none: it may have
--       read any
--
-- Answers {moved, lost, dead-lettered, quarantined, left}: how many messages were handed back,
-- failed as WorkerLost, became dead letters, and went to the quarantine stream; and 1 if there
-- is more to do, 0 if not, -1 if the consumer is alive or the clock has jumped: then nothing
-- was done.
-- Refuses with  WRONGTYPE key …  if a message had to stay
--
-- @include keys
-- @include finish
-- @include streams
-- @include messages
-- @include requeue
-- @include dead_letter

local consumer, claim = ARGV[1], ARGV[2]
local expected, tolerance = tonumber(ARGV[3]), tonumber(ARGV[4])
local reason, blame = ARGV[5], ARGV[6]
local crashes_allowed, expires = tonumber(ARGV[7]), ARGV[8]
local PAGE = 100 -- messages that are looked at together
local limits = { most = tonumber(ARGV[9]), life_ms = tonumber(ARGV[10]) }
local budget, known = tonumber(ARGV[11]), ARGV[12] ~= '*'

if expected and math.abs(now - expected) > tolerance then
  return { 0, 0, 0, 0, -1 }
end
if claim ~= '' then
  local deadline = redis.call('ZSCORE', key_of('leases'), consumer) or 'none'
  if deadline ~= claim then
    return { 0, 0, 0, 0, -1 }
  end
end

local running, at = {}, 13
for _ = 1, known and tonumber(ARGV[12]) or 0 do
  running[ARGV[at] .. ' ' .. ARGV[at + 1]] = true
  at = at + 2
end

local kept, keeps = {}, blame == 'kept'
if keeps then
  kept, running, blame = running, {}, 'none'
end

local moved, lost, dead_lettered, quarantined = 0, 0, 0, 0
local failure
local marks = key_of('started', consumer)
local sole_task = redis.call('HGET', marks, 'sole_task') -- the message that ran alone

local function end_lease()
  redis.call('ZREM', key_of('leases'), consumer)
  redis.call('HDEL', key_of('lease_ms'), consumer)
end

if claim ~= '' then
  end_lease()
end

local function fail(id, fields, queue)
  finish(
    id, fields, 'FAILURE', life_of(fields, expires), 'worker', consumer,
    'error_type', 'streamq.errors.WorkerLost', 'error', reason, 'queue', queue
  )
end

local function dead_letter_poison(stream, entry, fields, why)
  local queue, id = queue_of(stream), id_of(stream, entry, fields)
  dead_letter(queue, id, fields, why, consumer, reason, limits, true)
  fail(id, fields, queue)
  ack_and_delete(stream, entry)
  dead_lettered = dead_lettered + 1
end

-- Call a function and return whether it succeeded.  A failure leaves its message where it is;
-- the caller continues with the next one.
local function attempt(act, ...)
  local fine, why = pcall(act, ...)
  failure = failure or not fine and reason_of(why)
  return fine
end

-- A task that was acknowledged before it ran.
local function report_lost(place, text)
  local mark = cjson.decode(text)
  local queue, id = queue_of(mark.stream), field(mark.fields, 'id')
  if field(mark.fields, 'ignore_result') == '1' then
    dead_letter(queue, id, mark.fields, 'worker lost', consumer, reason, limits, true)
    dead_lettered = dead_lettered + 1
  else
    fail(id, mark.fields, queue)
    lost = lost + 1
  end
  redis.call('HDEL', marks, place)
end

-- Move a message to the quarantine stream of its queue, and send supervisors a notice.
local function move_to_quarantine(stream, entry, fields)
  local queue, id = queue_of(stream), id_of(stream, entry, fields)
  set_field(fields, 'id', id)
  make_group(key_of('queue', queue .. ':quarantine'))
  add_in_quarantine(queue, fields)
  ack_and_delete(stream, entry)
  show_waiting(id, generation_of(fields))
  redis.call('PUBLISH', key_of('notices'), 'quarantine ' .. queue)
  quarantined = quarantined + 1
end

local function was_running(place)
  return place == sole_task or not known or running[place]
end

local function move(stream, entry)
  local fields = fields_of(stream, entry)
  if not fields then
    ack_and_delete(stream, entry)
    return
  elseif too_large(fields) then
    return dead_letter_poison(stream, entry, fields, 'too many fields')
  end
  local id, place = id_of(stream, entry, fields), stream .. ' ' .. entry
  local counts = blame ~= 'none' and was_running(place)
  local ran_alone = blame == 'sole_task' or place == sole_task
  local crashes = number_in(fields, 'crashes', 0) + (counts and 1 or 0)
  local too_many = counts and crashes >= number_in(fields, 'max_deliveries', crashes_allowed)
  if counts then
    set_field(fields, 'crashes', tostring(crashes))
  end
  if was_revoked(id, fields) then
    ack_and_delete(stream, entry)
    local life = life_of(fields, expires)
    local ended = with_generation(generation_of(fields)) -- its record is there, and ends
    finish(id, ended, 'REVOKED', life, 'worker', consumer, 'reason', 'revoked')
    moved = moved + 1
  elseif not too_many then
    hand_back(stream, entry, fields)
    moved = moved + 1
  elseif ran_alone then
    local times = crashes == 1 and 'once' or crashes .. ' times'
    dead_letter_poison(stream, entry, fields, 'crashed ' .. times)
  else
    move_to_quarantine(stream, entry, fields)
  end
end

local started = redis.call('HGETALL', marks)
for i = 1, #started, 2 do
  local is_mark = started[i] ~= 'sole_task' -- it is needed until everything has been moved
  if is_mark and not kept[started[i]] then
    attempt(report_lost, started[i], started[i + 1])
  end
end

-- The streams to look through, by their short names.
local function streams_to_search()
  local streams, prefix = {}, #root + #':queue:' + 1
  for i = at, #ARGV do
    streams[#streams + 1] = ARGV[i]
  end
  for _, queue in ipairs(streams[1] and {} or redis.call('HKEYS', key_of('queues'))) do
    for _, key in ipairs(streams_of(queue)) do
      streams[#streams + 1] = string.sub(key, prefix)
    end
  end
  return streams
end

-- Move the messages that it held in a stream, within the budget.  Returns true if there may
-- be more.  A message that stays is skipped, and does not count.
local function move_all(stream)
  local key, after = key_of('queue', stream), '-'
  while true do
    local pending = redis.pcall('XPENDING', key, 'workers', after, '+', PAGE, consumer)
    if pending.err then
      return false
    end
    for _, held in ipairs(pending) do
      if budget == 0 then
        return true
      elseif not kept[stream .. ' ' .. held[1]] and attempt(move, stream, held[1]) then
        budget = budget - 1
      end
    end
    if #pending < PAGE then
      break
    end
    after = '(' .. pending[#pending][1]
  end
  if not failure and not keeps then -- else the next call must find it
    redis.call('XGROUP', 'DELCONSUMER', key, 'workers', consumer)
  end
  return false
end

for _, stream in ipairs(streams_to_search()) do
  if move_all(stream) then
    return { moved, lost, dead_lettered, quarantined, 1 }
  end
end
if failure then
  return redis.error_reply(failure)
elseif not keeps then
  end_lease()
  redis.call('DEL', marks)
  redis.call('DEL', key_of('settled', consumer))
end
return { moved, lost, dead_lettered, quarantined, 0 }
