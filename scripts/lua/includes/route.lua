-- The queues that a message goes to: the walk over exchanges, bindings and alternates.
--
-- Publishing never reads bindings, only the index of them that bind.lua keeps in
-- `routes:EXCHANGE`.  The meaning of its fields depends on the type of the exchange:
--
--   direct   KEY                   the destinations bound with this key
--   fanout   (empty)               all destinations
--   topic    .WORD.WORD            a node of a trie of patterns; the root is empty
--   headers  all&NAME=VALUE&NAME   a node of a trie of sorted pairs; a bare NAME asks only
--                                  for its presence; the root is `all`
--            any&NAME=VALUE        the destinations that this one pair is enough for
--
-- Destinations are lines `queue:NAME` or `exchange:NAME`, sorted, followed by `:COUNT` where
-- several bindings lead there.  A node has one more line in front: how many children it has,
-- then `*` and `#` if these are among them.
--
-- @include keys

-- Byte order: Lua's own `<` follows the locale that the server was started in.
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function percent(byte)
  return string.format('%%%02X', string.byte(byte))
end

-- Text that may stand in an index field or an error reply: no spaces, no `&`, `=` or `?`.
local function escaped(text)
  return (string.gsub(text, '[^A-Za-z0-9_.:/+~-]', percent))
end

-- An error reply: a code, then words, escaped so that a space only separates them.
local function refusal(code, ...)
  local words = { code }
  for i = 1, select('#', ...) do
    words[i + 1] = escaped(tostring((select(i, ...))))
  end
  return redis.error_reply(table.concat(words, ' '))
end

-- Split at every dot.  The empty key has no words; `a..b` has three.
local function words_of(key)
  local words = {}
  if key == '' then
    return words
  end
  local from = 1
  while true do
    local dot = string.find(key, '.', from, true)
    if not dot then
      words[#words + 1] = string.sub(key, from)
      return words
    end
    words[#words + 1] = string.sub(key, from, dot - 1)
    from = dot + 1
  end
end

-- A node of a trie, from the text in the index.
local function node_of(text)
  local children, star, hash, destinations = string.match(text, '^(%d+)(%*?)(#?)\n?(.*)$')
  return {
    children = tonumber(children),
    star = star ~= '',
    hash = hash ~= '',
    destinations = destinations,
  }
end

-- HMGET in parts, because `unpack` takes at most some 8000 values.  Calls found_field(field,
-- text) for each field that exists.
local function read_fields(exchange, fields, found_field)
  for from = 1, #fields, 4000 do
    local to = math.min(from + 3999, #fields)
    local texts = redis.call('HMGET', key_of('routes', exchange), unpack(fields, from, to))
    for i = from, to do
      local text = texts[i - from + 1]
      if text then
        found_field(fields[i], text)
      end
    end
  end
end

-- The headers of a message as the index spells them, in the order of their names.
local function spelled(headers)
  local values, names = {}, {}
  for i = 1, #headers, 2 do
    local name = escaped(headers[i])
    if not values[name] then
      names[#names + 1] = name
    end
    values[name] = escaped(headers[i + 1])
  end
  table.sort(names, before)
  local pairs_of = {}
  for i, name in ipairs(names) do
    pairs_of[i] = { '&' .. name .. '=' .. values[name], '&' .. name }
  end
  return pairs_of
end

local function match_direct(exchange, key)
  return { [key] = redis.call('HGET', key_of('routes', exchange), key) or nil }
end

local function match_fanout(exchange)
  return { [''] = redis.call('HGET', key_of('routes', exchange), '') or nil }
end

-- All nodes that the words so far can lead to are walked at once, so no pattern backtracks.
-- A node below `#` stays active whatever comes; `*` and `#` are active together with words.
local function match_topic(exchange, key)
  local active

  local function reach(paths)
    while #paths > 0 do
      local below = {}
      read_fields(exchange, paths, function(path, text)
        if not active[path] then
          local node = node_of(text)
          active[path] = node
          if node.hash then
            below[#below + 1] = path .. '.#'
          end
        end
      end)
      paths = below
    end
  end

  active = {}
  reach({ '' })
  for _, word in ipairs(words_of(key)) do
    local paths, staying = {}, {}
    for path, node in pairs(active) do
      local wild = (node.star and 1 or 0) + (node.hash and 1 or 0)
      if node.children > wild then
        paths[#paths + 1] = path .. '.' .. word
      end
      if node.star then
        paths[#paths + 1] = path .. '.*'
      end
      if string.sub(path, -2) == '.#' then
        staying[path] = node
      end
    end
    active = staying
    reach(paths)
  end

  local hits = {}
  for path, node in pairs(active) do
    if node.destinations ~= '' then
      hits[path] = node.destinations
    end
  end
  return hits
end

-- Only nodes that consist of pairs of this message are read.
local function match_headers(exchange, _, headers)
  local given, hits = spelled(headers), {}

  local function keep(field, destinations)
    if destinations ~= '' then
      hits[field] = destinations
    end
  end

  local fields = {}
  for _, spellings in ipairs(given) do
    fields[#fields + 1] = 'any' .. spellings[1]
    fields[#fields + 1] = 'any' .. spellings[2]
  end
  read_fields(exchange, fields, keep)

  local paths, last = { 'all' }, { all = 0 } -- last: the position of a path's last pair
  while #paths > 0 do
    local below = {}
    read_fields(exchange, paths, function(path, text)
      local node = node_of(text)
      keep(path, node.destinations)
      if node.children > 0 then
        for i = last[path] + 1, #given do
          for _, spelling in ipairs(given[i]) do
            below[#below + 1] = path .. spelling
            last[path .. spelling] = i
          end
        end
      end
    end)
    paths = below
  end
  return hits
end

-- By type of exchange: the index fields that match, each with its destinations.
local match = {
  direct = match_direct,
  fanout = match_fanout,
  topic = match_topic,
  headers = match_headers,
}

-- The queues a message goes to, sorted, each once; nil if there is no such exchange.
--
-- Every exchange is visited once.  Where the bindings of an exchange match nothing, its
-- alternate is visited instead.  `headers` is name, value, name, value, …;
-- `observe`, if given, is called for each exchange with its name, type, hits and alternate.
local function route(exchange, key, headers, observe)
  if exchange == '' then
    return redis.call('HEXISTS', key_of('queues'), key) == 1 and { key } or {}
  end

  local queues, reached = {}, {}
  local todo, visited = { exchange }, { [exchange] = true }

  local function visit(name)
    if not visited[name] then
      visited[name] = true
      todo[#todo + 1] = name
    end
  end

  local at = 1
  while todo[at] do
    local name = todo[at]
    local type = redis.call('HGET', key_of('exchanges'), name)
    if type then
      local hits, alternate = match[type](name, key, headers), nil
      for _, destinations in pairs(hits) do
        for kind, target in string.gmatch(destinations, '([a-z]+):([^:\n]+)[^\n]*') do
          if kind == 'exchange' then
            visit(target)
          elseif not reached[target] then
            reached[target] = true
            queues[#queues + 1] = target
          end
        end
      end
      if next(hits) == nil then
        alternate = redis.call('HGET', key_of('alternates'), name) or nil
        if alternate then
          visit(alternate)
        end
      end
      if observe then
        observe(name, type, hits, alternate)
      end
    elseif at == 1 then
      return nil
    end
    at = at + 1
  end

  table.sort(queues, before)
  return queues
end
