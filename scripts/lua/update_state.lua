#!lua flags=allow-oom
-- Write a state that a running task has set, with its meta data.
--
-- A consumer that was declared dead writes nothing.  None writes over a run of another one.
--
-- KEYS  root of the namespace
-- ARGV  consumer, name (the id, or ID::2 …), state, meta, content type of meta ('' for JSON)
--
-- Answers 1, or 0 if the task has no record, has ended, its id is used again, or it is not run
-- by this consumer.
--
-- @include keys
-- @include records
-- @include states

local consumer, id, generation = ARGV[1], split_name(ARGV[2])
local record = key_of('task', id)
local found = redis.call('HMGET', record, 'state', 'worker', 'generation', 'finished')
local state, worker, ended = found[1], found[2], FINAL[found[1]] or found[4]
local runs_elsewhere = not is_waiting(state) and worker ~= consumer
if not state or ended or runs_elsewhere or (found[3] or '1') ~= generation then
  return 0
end
if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return 0
end
redis.call('HSET', record, 'state', ARGV[3], 'meta', ARGV[4], 'worker', consumer)
if ARGV[5] == '' then
  redis.call('HDEL', record, 'meta_content_type')
else
  redis.call('HSET', record, 'meta_content_type', ARGV[5])
end
return 1
