#!lua flags=allow-oom
-- Forget a task: delete its record, and end the waits for it.  If it has not ended, the number
-- of its generation is kept.
--
-- KEYS  root of the namespace
-- ARGV  id
--
-- Answers 1 if there was a record, else 0.
--
-- @include keys
-- @include finish
-- @include generations

local record = key_of('task', ARGV[1])
local used = generations()
if used.unended(ARGV[1]) then -- its message still exists: what is sent under its id is another task
  used.note_number(ARGV[1], used.next({ ARGV[1] }))
end
for _, waiters in ipairs({ redis.call('HGET', record, 'waiters'), take_early_waiters(ARGV[1]) }) do
  if waiters then
    notify_waiters(waiters, ARGV[1])
  end
end
return redis.call('DEL', record)
