#!lua flags=allow-oom
-- Renew the leases of a worker's consumers, and say what the worker is doing.
--
-- KEYS  root of the namespace
-- ARGV  node, lease in milliseconds
--       count, then as many consumers
--       then names and values that describe the worker
--
-- Answers the consumers that have no lease any more: they are fenced.
--
-- @include keys
-- @include clock

local now, node, lease_ms = clock(), ARGV[1], tonumber(ARGV[2])
local last = 3 + tonumber(ARGV[3])

local fenced = {}
for i = 4, last do
  if redis.call('ZSCORE', key_of('leases'), ARGV[i]) then
    redis.call('ZADD', key_of('leases'), 'XX', now + lease_ms, ARGV[i])
  else
    fenced[#fenced + 1] = ARGV[i]
  end
end

redis.call('DEL', key_of('worker', node))
redis.call('HSET', key_of('worker', node), 'seen', now, unpack(ARGV, last + 1))
redis.call('PEXPIRE', key_of('worker', node), 3 * lease_ms)
redis.call('ZADD', key_of('workers'), now + 3 * lease_ms, node)
redis.call('ZREMRANGEBYSCORE', key_of('workers'), '-inf', now)
return fenced
