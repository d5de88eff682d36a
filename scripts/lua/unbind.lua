#!lua flags=allow-oom
-- Remove one binding, given exactly as it was bound.
--
-- KEYS  root of the namespace
-- ARGV  as for bind.lua
--
-- Answers 1 if it was there, else 0.
--
-- @include keys
-- @include route
-- @include topology

local exchange, kind, name, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local type = redis.call('HGET', key_of('exchanges'), exchange)
if not type then
  return 0
end
return drop_binding(exchange, type, kind .. ':' .. name, key, arguments_at(5)) and 1 or 0
