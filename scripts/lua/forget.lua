#!lua flags=allow-oom
-- Forget a task: remove its record, and end the waits for it.
--
-- KEYS  root of the namespace
-- ARGV  id
--
-- Answers 1 if there was a record, else 0.
--
-- @include keys
-- @include clock
-- @include endings

local record = key_of('task', ARGV[1])
local waiters = redis.call('HGET', record, 'waiters')
if waiters then
  tell_waiters(waiters, ARGV[1])
end
return redis.call('DEL', record)
