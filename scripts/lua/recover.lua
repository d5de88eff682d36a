#!lua flags=allow-oom
-- Recover what a consumer held: it settles nothing any more, and others run its messages.
--
-- A consumer that strangers recover may live: it leaves the lease table first, so that it is
-- fenced from here on.  Its own supervisor knows that it is dead, and keeps its lease until
-- nothing is left: strangers would not know what was running.
--
-- A message that was running is charged with a crash.  If it ran alone and has crashed too
-- often, it goes to the dead letters.  If others ran beside it, each of them is only
-- suspected: who is suspected too often goes to the suspects, to run once more alone; only a
-- crash there condemns.  What was acknowledged early cannot run again: its task fails as
-- WorkerLost.
--
-- Bounded: whoever is answered that more is left calls again.  The consumer is deleted from
-- its groups when it holds nothing.  What cannot be moved, because a key that it needs holds
-- something else, stays with it, and everything else is moved first: what stays is tried at
-- each call, and does not count.
--
-- KEYS  root of the namespace
-- ARGV  consumer
--       claim                        '' if its own supervisor speaks; for others the deadline
--                                    that the lease table had for it ('none' for none)
--       expected, tolerance          the server's time that the caller expects, '' for none:
--                                    if the clock differs by more, nothing is done
--       reason                       what happened to it, for records and dead letters
--       charge                       alone: what was running crashed, and nothing ran beside
--                                    it; suspects: one of those crashed; none: they were
--                                    stopped; kept: how they end is still to be settled in
--                                    its name, so they stay, and so does its lease
--       crashes                      how many crashes a message may have, unless it says so
--       expires, most, life          of records (ms), and the bounds of the dead letters
--       budget                       how many messages to move in this call
--       count, then stream and entry of each message that was running; '*' if that is not
--       known: everything it held may have been
--       then the streams that it can have read, by their short names; none: it may have
--       read any
--
-- Answers {moved, lost, buried, isolated, left}: handed back, failed as WorkerLost,
-- dead-lettered, to be run alone, and 1 if there is more to do, 0 if not, -1 if the consumer
-- lives or the clock has jumped: then nothing was done.
-- Refuses with  WRONGTYPE key …  if something had to stay
--
-- @include keys
-- @include clock
-- @include endings
-- @include foreign
-- @include streams
-- @include messages
-- @include dead
-- @include dead_letter

local consumer, claim = ARGV[1], ARGV[2]
local expected, tolerance = tonumber(ARGV[3]), tonumber(ARGV[4])
local reason, charge = ARGV[5], ARGV[6]
local crashes_allowed, expires = tonumber(ARGV[7]), ARGV[8]
local PAGE = 100 -- messages that are looked at together
local limits = { most = tonumber(ARGV[9]), life_ms = tonumber(ARGV[10]) }
local budget, known = tonumber(ARGV[11]), ARGV[12] ~= '*'

if expected and math.abs(now - expected) > tolerance then
  return { 0, 0, 0, 0, -1 }
end
if claim ~= '' then
  local deadline = redis.call('ZSCORE', key_of('leases'), consumer)
  if deadline and deadline ~= claim then
    return { 0, 0, 0, 0, -1 }
  end
end

local running, at = {}, 13
for _ = 1, known and tonumber(ARGV[12]) or 0 do
  running[ARGV[at] .. ' ' .. ARGV[at + 1]] = true
  at = at + 2
end

local kept, keeps = {}, charge == 'kept'
if keeps then
  kept, running, charge = running, {}, 'none'
end

local moved, lost, buried, isolated = 0, 0, 0, 0
local failure
local marks = key_of('started', consumer)
local alone = redis.call('HGET', marks, 'alone') -- what it ran with nothing beside it

local function end_lease()
  redis.call('ZREM', key_of('leases'), consumer)
  redis.call('HDEL', key_of('lease_ms'), consumer)
end

if claim ~= '' then
  end_lease()
end

local function fail(id, fields, queue)
  if field(fields, 'ignore_result') == '1' then
    return false
  end
  return finish(
    id, generation_of(fields), 'FAILURE', life_of(fields, expires), 'worker', consumer,
    'error_type', 'streamq.errors.WorkerLost', 'error', reason, 'queue', queue
  )
end

local function condemn(stream, entry, fields, why)
  local queue, id = queue_of(stream), id_of(stream, entry, fields)
  dead_letter(queue, id, fields, why, consumer, reason, limits, true)
  fail(id, fields, queue)
  take(stream, entry)
  buried = buried + 1
end

-- Do one thing, and tell whether it was done; what fails leaves its message where it is, and
-- the others are gone on with.
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
    buried = buried + 1
  else
    fail(id, mark.fields, queue)
    lost = lost + 1
  end
  redis.call('HDEL', marks, place)
end

-- To those that are run alone, by a runner that does nothing else.
local function isolate(stream, entry, fields)
  local queue, id = queue_of(stream), id_of(stream, entry, fields)
  local key = key_of('queue', queue .. ':suspects')
  set_field(fields, 'id', id)
  make_group(key)
  redis.call('SADD', key_of('suspects'), queue)
  redis.call('XADD', key, '*', unpack(fields))
  take(stream, entry)
  show_waiting(id, generation_of(fields))
  redis.call('PUBLISH', key_of('bell'), 'suspects ' .. queue)
  isolated = isolated + 1
end

local function was_running(place)
  return place == alone or not known or running[place]
end

local function move(stream, entry)
  local fields = fields_of(stream, entry)
  if not fields then
    take(stream, entry)
    return
  elseif too_large(fields) then
    return condemn(stream, entry, fields, 'too many fields')
  end
  local id, place = id_of(stream, entry, fields), stream .. ' ' .. entry
  local charged = charge ~= 'none' and was_running(place)
  local certain = charge == 'alone' or place == alone
  local crashes = number_in(fields, 'crashes', 0) + (charged and 1 or 0)
  local too_many = charged and crashes >= number_in(fields, 'max_deliveries', crashes_allowed)
  if charged then
    set_field(fields, 'crashes', tostring(crashes))
  end
  if was_revoked(id, fields) then
    take(stream, entry)
    local life = life_of(fields, expires)
    finish(id, generation_of(fields), 'REVOKED', life, 'worker', consumer, 'reason', 'revoked')
    moved = moved + 1
  elseif not too_many then
    give_back(stream, entry, fields)
    moved = moved + 1
  elseif certain then
    local times = crashes == 1 and 'once' or crashes .. ' times'
    condemn(stream, entry, fields, 'crashed ' .. times)
  else
    isolate(stream, entry, fields)
  end
end

local started = redis.call('HGETALL', marks)
for i = 1, #started, 2 do
  local is_mark = started[i] ~= 'alone' -- that is known until everything has been moved
  if is_mark and not kept[started[i]] then
    attempt(report_lost, started[i], started[i + 1])
  end
end

-- The streams to look through, by their short names.
local function read_by_it()
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

-- Move what it held in a stream, as far as the budget goes; true if there may be more.  What
-- stays is passed over, and costs nothing.
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
  if not failure and not keeps then -- else it is to be found by whoever tries again
    redis.call('XGROUP', 'DELCONSUMER', key, 'workers', consumer)
  end
  return false
end

for _, stream in ipairs(read_by_it()) do
  if move_all(stream) then
    return { moved, lost, buried, isolated, 1 }
  end
end
if failure then
  return redis.error_reply(failure)
elseif not keeps then
  end_lease()
  redis.call('DEL', marks)
  redis.call('DEL', key_of('settled', consumer))
end
return { moved, lost, buried, isolated, 0 }
