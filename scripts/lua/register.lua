#!lua flags=allow-oom
-- Give a consumer a lease, before its first read; and store how long the lease lasts, because
-- other workers need that to decide when it is dead.
--
-- A consumer that may have had a lease says so: if it has none now, it was declared dead, and
-- gets no other under that name.
--
-- KEYS  root of the namespace
-- ARGV  lease in milliseconds, consumer
--       again  '1' if it may have had one
--
-- Answers the server's time in milliseconds.
-- Refuses with  FENCED consumer  WRONGTYPE key …
--
-- @include keys
-- @include clock
-- @include wrong_type

need('zset', key_of('leases'))
need('hash', key_of('lease_ms'))

local now, lease_ms, consumer = clock(), tonumber(ARGV[1]), ARGV[2]
if ARGV[3] == '1' and not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end
redis.call('ZADD', key_of('leases'), now + lease_ms, consumer)
redis.call('HSET', key_of('lease_ms'), consumer, lease_ms)
return now
