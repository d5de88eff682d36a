#!lua flags=allow-oom
-- Give consumers a lease, before their first read; and say how long theirs lasts, because
-- others judge by that.
--
-- KEYS  root of the namespace
-- ARGV  lease in milliseconds, then consumers
--
-- Answers the server's time in milliseconds.
-- Refuses with  WRONGTYPE key …
--
-- @include keys
-- @include clock
-- @include foreign

need('zset', key_of('leases'))
need('hash', key_of('lease_ms'))

local now = clock()
for i = 2, #ARGV do
  redis.call('ZADD', key_of('leases'), now + tonumber(ARGV[1]), ARGV[i])
  redis.call('HSET', key_of('lease_ms'), ARGV[i], ARGV[1])
end
return now
