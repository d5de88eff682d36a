#!lua flags=allow-oom
-- Bind a queue or an exchange to an exchange.
--
-- KEYS  root of the namespace
-- ARGV  exchange, 'queue' or 'exchange', its name, key,
--       then for a headers exchange the arguments: name, value, name, value, …
--       with values as canonical text (i:1  f:1.0  s:text  b:true  v: for "is there")
--
-- Answers 1 for a new binding, 0 for one that was there.  Refuses with
--   DEFAULTEXCHANGE                   the default exchange binds every queue by itself
--   NOEXCHANGE name · NOQUEUE name    not declared
--   ARGUMENTS exchange type           only headers exchanges look at arguments
--   XMATCH exchange value             not all, any, all-with-x or any-with-x
--
-- @include keys
-- @include route
-- @include topology

local exchange, kind, name, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if exchange == '' or (kind == 'exchange' and name == '') then
  return refusal('DEFAULTEXCHANGE')
end
local type = redis.call('HGET', key_of('exchanges'), exchange)
if not type then
  return refusal('NOEXCHANGE', exchange)
elseif kind == 'exchange' then
  if redis.call('HEXISTS', key_of('exchanges'), name) == 0 then
    return refusal('NOEXCHANGE', name)
  end
elseif kind ~= 'queue' or redis.call('HEXISTS', key_of('queues'), name) == 0 then
  return refusal('NOQUEUE', name)
end

local arguments = arguments_at(5)
if type ~= 'headers' and arguments ~= '' then
  return refusal('ARGUMENTS', exchange, type)
elseif not matching(arguments) then
  return refusal('XMATCH', exchange, string.match('&' .. arguments, '&x%-match=([^&]*)'))
end

return add_binding(exchange, type, kind .. ':' .. name, key, arguments) and 1 or 0
