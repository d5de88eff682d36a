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

if redis.call('HEXISTS', keys.exchanges, name) == 0 then
  return -1
end

local dropped = drop_bindings_to('exchange:' .. name) + redis.call('HLEN', keys.bindings(name))
redis.call('DEL', keys.bindings(name), keys.routes(name))
redis.call('HDEL', keys.alternates, name)
redis.call('HDEL', keys.exchanges, name)
return dropped
