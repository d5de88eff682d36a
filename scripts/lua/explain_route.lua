#!lua flags=no-writes,allow-oom
-- Report where a message would go and which bindings send it there.  Writes nothing.
--
-- KEYS  root of the namespace
-- ARGV  exchange, routing key, then the headers: name, value, name, value, …
--
-- Answers {queues, step, step, …}: the queues joined by ':' ('' for none), and per step
--   {exchange, type, 'binding',   'queue:NAME' or 'exchange:NAME', key, arguments}
--   {exchange, type, 'alternate', 'exchange:NAME', '', ''}
--   {'',     'direct', 'default', 'queue:NAME', key, ''}
-- Refuses with
--   NOEXCHANGE name
--
-- The queues come from the index that publish.lua reads.  To name the bindings behind them,
-- it reads all bindings of each exchange on the way: for people, too slow for programs.
--
-- @include keys
-- @include route
-- @include topology

local exchange, key = ARGV[1], ARGV[2]
local headers = { unpack(ARGV, 3) }
local answer = { '' }

-- Whether one of the index fields that matched holds this binding.
local function hit(hits, type, binding_key_text, arguments)
  local fields, path = places_of(type, binding_key_text, arguments)
  if path then
    return hits[path[#path]] ~= nil
  end
  for _, field in ipairs(fields) do
    if hits[field] then
      return true
    end
  end
  return false
end

local function explain(name, type, hits, alternate)
  if alternate then
    answer[#answer + 1] = { name, type, 'alternate', 'exchange:' .. alternate, '', '' }
    return
  end
  local bindings = redis.call('HGETALL', key_of('bindings', name))
  local found, fields = {}, {}
  for i = 1, #bindings, 2 do
    local field, arguments = bindings[i], bindings[i + 1]
    local destination = string.match(field, '^[a-z]+:[^:]+')
    local bound_key = binding_key(type, destination, field)
    if hit(hits, type, bound_key, arguments) then
      fields[#fields + 1] = field
      found[field] = { name, type, 'binding', destination, bound_key, arguments }
    end
  end
  table.sort(fields, before)
  for _, field in ipairs(fields) do
    answer[#answer + 1] = found[field]
  end
end

local queues = route(exchange, key, headers, explain)
if not queues then
  return refusal('NOEXCHANGE', exchange)
elseif exchange == '' and queues[1] then
  answer[2] = { '', 'direct', 'default', 'queue:' .. key, key, '' }
end
answer[1] = table.concat(queues, ':')
return answer
