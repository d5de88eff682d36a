#!lua flags=allow-oom
-- Show in the records of tasks that they have started.
--
-- KEYS  root of the namespace
-- ARGV  consumer, then ids
--
-- Answers how many records say so now.  Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include waiting
-- @include wishes

local now, consumer = clock(), ARGV[1]

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local shown = 0
for i = 2, #ARGV do
  local record = key_of('task', ARGV[i])
  local state = redis.call('HGET', record, 'state')
  if not state or WAITING[state] then
    redis.call('HSET', record, 'state', 'STARTED', 'started', now, 'worker', consumer)
    redis.call('PERSIST', record)
    if not state then
      note_wishes(ARGV[i])
    end
    shown = shown + 1
  end
end
return shown
