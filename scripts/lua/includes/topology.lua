-- Declarations and bindings, and the index of them that publishing reads (see route.lua).
--
-- @include keys
-- @include route

-- Names are separated by `:` in keys and by line ends in the index.
local function bad_name(name)
  return #name < 1 or #name > 200 or string.find(name, '[%c@:{}]') ~= nil
end

-- The arguments of a binding as one canonical text: `NAME=VALUE&NAME=VALUE`, escaped, in the
-- order of the names.  ARGV holds them from `at` on: name, value, name, value, …
local function arguments_at(at)
  local values, names = {}, {}
  for i = at, #ARGV, 2 do
    local name = escaped(ARGV[i])
    if not values[name] then
      names[#names + 1] = name
    end
    values[name] = escaped(ARGV[i + 1] or '')
  end
  table.sort(names, before)
  for i, name in ipairs(names) do
    names[i] = name .. '=' .. values[name]
  end
  return table.concat(names, '&')
end

-- How a headers binding matches: `all` or `any`, and its pairs as the index spells them.
-- Nil if its x-match is not one of AMQP's.
local function matching(arguments)
  local how, spellings = 's:all', {}
  for name, value in string.gmatch(arguments, '([^&=]*)=([^&]*)') do
    if name == 'x-match' then
      how = value
    end
  end
  local kind, with_x = string.match(how, '^s:(a[ln][ly])(.*)$')
  if not (kind == 'all' or kind == 'any') or not (with_x == '' or with_x == '-with-x') then
    return nil
  end
  for name, value in string.gmatch(arguments, '([^&=]*)=([^&]*)') do
    local counts = string.sub(name, 1, 2) ~= 'x-' or (with_x ~= '' and name ~= 'x-match')
    if counts then
      spellings[#spellings + 1] = '&' .. name .. (value == 'v:' and '' or '=' .. value)
    end
  end
  return kind, spellings
end

-- The path of a trie from its root to the node that these steps lead to.
local function path_along(root_node, steps)
  local path = { root_node }
  for i, step in ipairs(steps) do
    path[i + 1] = path[i] .. step
  end
  return path
end

-- The fields of the index for a binding: plain ones, or one path through a trie.
local function places_of(type, key, arguments)
  if type == 'direct' then
    return { key }, nil
  elseif type == 'fanout' then
    return { '' }, nil
  elseif type == 'topic' then
    local steps = {}
    for i, word in ipairs(words_of(key)) do
      steps[i] = '.' .. word
    end
    return {}, path_along('', steps)
  end
  local kind, spellings = matching(arguments)
  if kind == 'all' then
    return {}, path_along('all', spellings)
  end
  local fields = {}
  for i, spelling in ipairs(spellings) do
    fields[i] = 'any' .. spelling
  end
  return fields, nil
end

-- Destinations with one binding more (by = 1) or less (by = -1) to this one.
local function counted(destinations, destination, by)
  local lines, placed = {}, by < 0
  for line in string.gmatch(destinations, '[^\n]+') do
    local target, count = string.match(line, '^([a-z]+:[^:]+):?(%d*)$')
    if target == destination then
      placed = true
      local left = (tonumber(count) or 1) + by
      line = left > 1 and target .. ':' .. left or left == 1 and target or nil
    elseif not placed and before(destination, target) then
      placed = true
      lines[#lines + 1] = destination
    end
    lines[#lines + 1] = line
  end
  if not placed then
    lines[#lines + 1] = destination
  end
  return table.concat(lines, '\n')
end

local function count_field(routes, field, destination, by)
  local text = counted(redis.call('HGET', routes, field) or '', destination, by)
  if text == '' then
    redis.call('HDEL', routes, field)
  else
    redis.call('HSET', routes, field, text)
  end
end

-- Write a node, or remove it once nothing ends at it or goes through it.
-- Returns by how much that changed the number of its parent's children.
local function write_node(routes, path, node, existed)
  if node.children == 0 and node.destinations == '' then
    redis.call('HDEL', routes, path)
    return existed and -1 or 0
  end
  local text = node.children .. (node.star and '*' or '') .. (node.hash and '#' or '')
  if node.destinations ~= '' then
    text = text .. '\n' .. node.destinations
  end
  redis.call('HSET', routes, path, text)
  return existed and 0 or 1
end

-- Count at the end of a path, then upwards as long as nodes appear or disappear.
local function count_path(routes, path, destination, by)
  local change
  for i = #path, 1, -1 do
    local text = redis.call('HGET', routes, path[i])
    local node = node_of(text or '0')
    if i == #path then
      node.destinations = counted(node.destinations, destination, by)
    else
      local wild = string.match(path[i + 1], '%.([*#])$')
      node.children = node.children + change
      if wild == '*' then
        node.star = change > 0
      elseif wild == '#' then
        node.hash = change > 0
      end
    end
    change = write_node(routes, path[i], node, text ~= false)
    if change == 0 then
      return
    end
  end
end

-- The field of a binding in `bindings:EXCHANGE`.  Only headers bindings differ by arguments.
local function binding_field(type, destination, key, arguments)
  local field = destination .. ':' .. key
  return type == 'headers' and field .. '?' .. arguments or field
end

-- The key in such a field; arguments hold no `?`.
local function binding_key(type, destination, field)
  local key = string.sub(field, #destination + 2)
  return type == 'headers' and string.match(key, '^(.*)%?[^?]*$') or key
end

local function count_binding(exchange, type, destination, key, arguments, by)
  local routes = key_of('routes', exchange)
  local fields, path = places_of(type, key, arguments)
  for _, field in ipairs(fields) do
    count_field(routes, field, destination, by)
  end
  if path then
    count_path(routes, path, destination, by)
  end
end

-- Add or drop a binding; return whether that changed anything.
local function add_binding(exchange, type, destination, key, arguments)
  local field = binding_field(type, destination, key, arguments)
  if redis.call('HSETNX', key_of('bindings', exchange), field, arguments) == 0 then
    return false
  end
  count_binding(exchange, type, destination, key, arguments, 1)
  return true
end

local function drop_binding(exchange, type, destination, key, arguments)
  local field = binding_field(type, destination, key, arguments)
  if redis.call('HDEL', key_of('bindings', exchange), field) == 0 then
    return false
  end
  count_binding(exchange, type, destination, key, arguments, -1)
  return true
end

-- Remove every binding that leads to a destination; returns how many there were.
local function drop_bindings_to(destination)
  local dropped, prefix = 0, destination .. ':'
  local exchanges = redis.call('HGETALL', key_of('exchanges'))
  for i = 1, #exchanges, 2 do
    local exchange, type = exchanges[i], exchanges[i + 1]
    for _, field in ipairs(redis.call('HKEYS', key_of('bindings', exchange))) do
      if string.sub(field, 1, #prefix) == prefix then
        local arguments = redis.call('HGET', key_of('bindings', exchange), field)
        local key = binding_key(type, destination, field)
        drop_binding(exchange, type, destination, key, arguments)
        dropped = dropped + 1
      end
    end
  end
  return dropped
end
