#!lua flags=allow-oom
-- Pause, resume or remove a schedule; or note whether any living worker declares it.
--
-- A paused schedule keeps its place in `schedules`, at infinity.  What falls into the pause is not
-- missed: whoever fires it next leaves out what was due until `resumed`.
--
-- KEYS  root of the namespace
-- ARGV  pause, resume, remove; undeclared, declared
--       name
--       expected                   change it only if this is its moment (ms); '' for any
--
-- Answers 1 if there is such a schedule, 0 if not.
--
-- @include keys
-- @include now
-- @include wrong_type

local how, name, expected = ARGV[1], ARGV[2], ARGV[3]
local schedules, key = key_of('schedules'), key_of('schedule', name)
local score = redis.call('ZSCORE', schedules, name)

if redis.call('EXISTS', key) == 0 or (expected ~= '' and score ~= expected) then
  return 0
end
if how == 'remove' then -- whatever it holds
  redis.call('ZREM', schedules, name)
  redis.call('DEL', key, key .. ':runs')
  redis.call('PUBLISH', key_of('notices'), 'schedules')
  return 1
end
need('hash', key)
local paused = redis.call('HEXISTS', key, 'paused') == 1
if how == 'pause' and not paused then
  redis.call('HSET', key, 'paused', moment)
  if score then
    redis.call('HSET', key, 'next', score)
    redis.call('ZADD', schedules, 'inf', name)
  end
elseif how == 'resume' and paused then
  local following = redis.call('HGET', key, 'next')
  redis.call('HDEL', key, 'paused', 'next')
  redis.call('HSET', key, 'resumed', moment)
  if following then
    redis.call('ZADD', schedules, following, name)
  end
elseif how == 'undeclared' then
  redis.call('HSETNX', key, 'undeclared', moment)
  return 1
elseif how == 'declared' then
  redis.call('HDEL', key, 'undeclared')
  return 1
end
redis.call('PUBLISH', key_of('notices'), 'schedules')
return 1
