#!lua flags=allow-oom
-- Write into the records of tasks that they have started.
--
-- KEYS  root of the namespace
-- ARGV  consumer, then names: the id, or from its second generation on ID::2
--
-- Answers how many records were changed.  Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include records
-- @include states
-- @include early_waiters

local now, consumer = clock(), ARGV[1]

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local shown = 0
for i = 2, #ARGV do
  local id, generation = split_name(ARGV[i])
  local record = key_of('task', id)
  local found = redis.call('HMGET', record, 'state', 'generation', 'finished')
  local state, another = found[1], (found[2] or '1') ~= generation
  local waits = not state or (is_waiting(state) and not found[3] and not another)
  if waits then
    redis.call('HSET', record, 'state', 'STARTED', 'started', now, 'worker', consumer)
    redis.call('PERSIST', record)
    if not state then
      note_early_waiters(id)
    end
    if another then -- there was no record
      redis.call('HSET', record, 'generation', generation)
    end
    shown = shown + 1
  end
end
return shown
