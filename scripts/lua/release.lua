#!lua flags=allow-oom
-- Hand back messages that were read but not run: to the front of their queues, uncharged.
--
-- KEYS  root of the namespace
-- ARGV  consumer, then stream and entry of each message
--
-- Answers how many were handed back.  Refuses with  FENCED consumer
--
-- @include keys
-- @include messages

local consumer = ARGV[1]

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

local released = 0
for at = 2, #ARGV, 2 do
  local stream, entry = ARGV[at], ARGV[at + 1]
  local fields = fields_of(stream, entry)
  local pending = redis.call('XPENDING', key_of('queue', stream), 'workers', entry, entry, 1, consumer)
  if fields and pending[1] and not too_large(fields) then
    give_back(stream, entry, fields)
    released = released + 1
  end
end
return released
