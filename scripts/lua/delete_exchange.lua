#!lua flags=allow-oom
-- Delete an exchange with the bindings from it and to it.
--
-- KEYS  root of the namespace
-- ARGV  name
--
-- Answers how many bindings went with it, or -1 if there was no such exchange.
--
-- @include keys
-- @include route
-- @include topology

local name = ARGV[1]

if redis.call('HEXISTS', key_of('exchanges'), name) == 0 then
  return -1
end

local dropped = drop_bindings_to('exchange:' .. name) + redis.call('HLEN', key_of('bindings', name))
redis.call('DEL', key_of('bindings', name), key_of('routes', name))
redis.call('HDEL', key_of('alternates'), name)
redis.call('HDEL', key_of('exchanges'), name)
return dropped
