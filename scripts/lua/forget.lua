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
for _, waiters in ipairs({ redis.call('HGET', record, 'waiters'), wishes_for(ARGV[1]) }) do
  if waiters then
    tell_waiters(waiters, ARGV[1])
  end
end
return redis.call('DEL', record)
