#!lua flags=allow-oom
-- Write a state that a running task named, with what there is to know about it.
--
-- KEYS  root of the namespace
-- ARGV  id, state, meta, content type of meta ('' for JSON)
--
-- Answers 1, or 0 if the task has no record or has ended.
--
-- @include keys
-- @include clock
-- @include endings

local record = key_of('task', ARGV[1])
local state = redis.call('HGET', record, 'state')
if not state or FINAL[state] then
  return 0
end
redis.call('HSET', record, 'state', ARGV[2], 'meta', ARGV[3])
if ARGV[4] == '' then
  redis.call('HDEL', record, 'meta_content_type')
else
  redis.call('HSET', record, 'meta_content_type', ARGV[4])
end
return 1
