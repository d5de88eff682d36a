#!lua flags=allow-oom
-- Declare an exchange.  Its type can never change; its alternate is the newest one declared.
--
-- KEYS  root of the namespace
-- ARGV  name, type (direct | topic | fanout | headers), alternate exchange or ''
--
-- Answers {1} for a new exchange, {0} for one as it was, {0, old alternate} for one whose
-- alternate changed.  Refuses with
--   BADNAME name                      not 1–200 bytes, or with @ : { } or control characters
--   BADTYPE name type                 no such type
--   EXCHANGETYPE name has asked       declared with another type before
--
-- @include keys
-- @include route
-- @include topology

local name, type, alternate = ARGV[1], ARGV[2], ARGV[3]

if bad_name(name) or (alternate ~= '' and bad_name(alternate)) then
  return refusal('BADNAME', bad_name(name) and name or alternate)
elseif not match[type] then
  return refusal('BADTYPE', name, type)
end

local has = redis.call('HGET', key_of('exchanges'), name)
if has and has ~= type then
  return refusal('EXCHANGETYPE', name, has, type)
end

local old = redis.call('HGET', key_of('alternates'), name) or ''
redis.call('HSET', key_of('exchanges'), name, type)
if alternate ~= '' then
  redis.call('HSET', key_of('alternates'), name, alternate)
else
  redis.call('HDEL', key_of('alternates'), name)
end

if not has then
  return { 1 }
end
return old == alternate and { 0 } or { 0, old }
