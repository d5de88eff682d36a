#!lua
-- Tick: publish what a schedule calls, and set its next moment, in one act.
--
-- Whoever comes first does it: the moment must still be the one that the caller expects.  So any
-- number of supervisors may try, and nobody leads.
--
-- KEYS  root of the namespace
-- ARGV  name                       of the schedule
--       expected                   the moment that is due, as `schedules` has it (ms)
--       revision, resumed          of the declaration that the caller knows, and when it was last
--                                  resumed; '' for never
--       next                       the moment after it (ms), or '' if there is none
--       missed                     how many moments were missed
--       nominal, id                the moment that runs (ms), and the id of its task; '' '' if
--                                  nothing is to run
--       overlap                    what is done while the last run has not ended: allow, skip or
--                                  replace it, which revokes it
--       final                      1: a message that is refused is left out, and the next moment
--                                  stands; 0: it is refused, and nothing is written
--       expires, life, signal, term
--                                  as for revoke.lua, to replace the last run with
--       then the message, as publish.lua takes it; nothing if nothing is to run
--
-- Answers {word, …}:
--   done ID              published
--   skipped              the last run has not ended
--   missed               nothing was to run
--   refused WORDS        the message cannot be published, for these words of publish.lua
--   other                another revision is declared, or it was resumed since
--   early MS             it is not due: the server's time
--   moved MS             somebody else was first: the moment that stands, '' for none
--   bad WORDS            the next moment is none that the schedule can have
--
-- @include keys
-- @include route
-- @include wire
-- @include destinations
-- @include generations
-- @include publish_message
-- @include revocation

local MOST_RUNS = 50
local YEAR_MS = 31622400000
local ENDED_LIFE_MS = 604800000 -- for which one without a further moment can be looked at

local name, expected, revision, resumed = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local following, missed, nominal, id = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local overlap, final = ARGV[9], ARGV[10] == '1'
local schedule_key = key_of('schedule', name)

-- Why the next moment cannot be right; nil if it can.
local function wrong_next(gap)
  local moment, last = tonumber(following), math.max(tonumber(expected), now)
  if following == '' then
    return nil
  elseif not moment then
    return 'not-a-number'
  elseif moment <= tonumber(expected) then
    return 'not-after-the-last'
  elseif gap and moment > last + gap + YEAR_MS then
    return 'too-far-away'
  end
end

-- Set the next moment, and note what became of this one; false for nothing to note.
local function write_run(outcome, ...)
  if following == '' then
    redis.call('ZREM', key_of('schedules'), name)
    redis.call('PEXPIRE', schedule_key, ENDED_LIFE_MS)
  else
    redis.call('ZADD', key_of('schedules'), 'XX', following, name)
    if redis.call('ZRANK', key_of('schedules'), name) == 0 then
      redis.call('PUBLISH', key_of('notices'), 'schedule ' .. following .. ' ' .. name)
    end
  end
  if missed > 0 then
    redis.call('HINCRBY', schedule_key, 'missed', missed)
  end
  if not outcome then
    return
  end
  redis.call(
    'XADD', schedule_key .. ':runs', 'MAXLEN', MOST_RUNS, '*', 'tick',
    nominal ~= '' and nominal or expected, 'outcome', outcome, 'missed', missed, ...
  )
  if following == '' then
    redis.call('PEXPIRE', schedule_key .. ':runs', ENDED_LIFE_MS)
  end
end

-- Publish the message; nil, or the words with which it is refused.
local function publish(message)
  message.in_use = generations().unended(id) -- then it was published before
  local refused, writes = assign_queues({ message })
  if refused then
    return refused.err
  end
  message.sole = writes == 1
  if writes > 0 and not publish_message(message) then
    return 'OUTOFIDS 0 ' .. message.destination.answer
  end
end

-- Revoke the last run, with all copies of a fan-out.
local function revoke_last(last_id)
  local how = { expires = ARGV[11], life = ARGV[12], signal = ARGV[13], term = ARGV[14] }
  local copies = redis.call('HGET', key_of('task', last_id), 'copies')
  for queue in string.gmatch(copies or '', '[^:]+') do
    revoke(last_id .. '@' .. queue, how)
  end
  if not copies then
    revoke(last_id, how)
  end
end

local score = redis.call('ZSCORE', key_of('schedules'), name)
if score ~= expected then
  return { 'moved', score or '' }
elseif tonumber(expected) > now then
  return { 'early', moment }
end
local known = redis.call('HMGET', schedule_key, 'revision', 'resumed', 'gap', 'last_id')
if (known[1] or '') ~= revision or (known[2] or '') ~= resumed then
  return { 'other' }
end
local last_id = known[4]
local wrong = wrong_next(tonumber(known[3]))
if wrong then
  return { 'bad', wrong }
end

if id == '' then
  write_run(missed > 0 and 'missed')
  return { 'missed' }
elseif overlap == 'skip' and last_id and generations().unended(last_id) then
  redis.call('HINCRBY', schedule_key, 'skipped', 1)
  write_run('skipped', 'id', last_id)
  return { 'skipped' }
end

local messages, malformed = messages_from(15)
local refused = malformed and malformed.err or publish(messages[1])
if refused and not final then
  return { 'refused', refused }
elseif refused then
  redis.call('HINCRBY', schedule_key, 'failed', 1)
  write_run('failed', 'error', refused)
  return { 'refused', refused }
end
if overlap == 'replace' and last_id and generations().unended(last_id) then
  revoke_last(last_id)
end
local late = string.format('%.0f', now - tonumber(expected))
redis.call('HSET', schedule_key, 'last', nominal, 'last_id', id, 'last_late_ms', late)
write_run('done', 'id', id, 'late_ms', late)
return { 'done', id }
