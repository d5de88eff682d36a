-- What becomes of a message that will not be run: its queue's dead-letter exchange gets a
-- copy, or the dead letters keep it.
--
-- @include keys
-- @include endings
-- @include messages
-- @include dead
-- @include generations
-- @include ids
-- @include route

local MOST_DEATHS = 10 -- a letter that has died so often goes in a circle

-- What belongs to the life that has ended.
local OF_THIS_LIFE = {
  crashes = true, retries = true, expires = true, eta = true, refusals = true, rejections = true,
  stale = true, id = true, generation = true,
}

-- The headers of a message as routing compares them.  JSON does not tell 1 from 1.0.
local function headers_of(fields)
  local decoded, headers = pcall(cjson.decode, field(fields, 'headers') or '{}')
  local found = {}
  for name, value in pairs(decoded and type(headers) == 'table' and headers or {}) do
    local kind = type(value)
    if kind == 'string' then
      value = 's:' .. value
    elseif kind == 'boolean' then
      value = 'b:' .. tostring(value)
    elseif kind == 'number' then
      value = value % 1 == 0 and string.format('i:%.0f', value) or 'f:' .. tostring(value)
    else
      value = 'v:'
    end
    found[#found + 1] = tostring(name)
    found[#found + 1] = value
  end
  return found
end

-- Where the letters of a queue go: exchange and key; nil if they stay here.
local function afterlife_of(queue, fields)
  local settings = redis.call('HGET', key_of('queues'), queue)
  if not settings or settings == '{}' then
    return nil
  end
  settings = cjson.decode(settings)
  if type(settings.dead_letter_exchange) ~= 'string' or field(fields, 'signature') then
    return nil -- a signature says where a message belongs: elsewhere nobody would run it
  end
  local key = settings.dead_letter_routing_key
  if type(key) ~= 'string' then
    key = field(fields, 'routing_key') or queue
  end
  return settings.dead_letter_exchange, key
end

-- The queues to which an exchange sends a letter.  None, and true, if one of them cannot
-- take it: then it stays here as a whole.
local function next_queues(fields, deaths, exchange, key)
  local queues = deaths <= MOST_DEATHS and route(exchange, key, headers_of(fields)) or {}
  for _, name in ipairs(queues) do
    local home = key_of('queue', home_of(name, fields))
    if too_large(fields) or foreign(home, 'stream') or is_spent(home) then
      return {}, true
    end
  end
  return queues, false
end

-- The dead-letter exchange sends a copy to each queue that wants it, as a task of its own:
-- ID@QUEUE.  Limits of those queues do not count.  Where there is a record, that of an
-- earlier letter, the copy begins a generation.  Returns the queues, joined, if any; and
-- whether some of them cannot take it.
local function pass_on(queue, id, fields, reason, exchange, key)
  local deaths = number_in(fields, 'deaths', 0) + 1
  local queues, blocked = next_queues(fields, deaths, exchange, key)
  local kept, used = field(fields, 'ignore_result') ~= '1', generations()
  for _, name in ipairs(queues) do
    local copy, own = without(fields, OF_THIS_LIFE), id .. '@' .. name
    local generation = used.next({ own })
    set_field(copy, 'id', own)
    set_field(copy, 'exchange', exchange)
    set_field(copy, 'routing_key', key)
    set_field(copy, 'deaths', tostring(deaths))
    set_field(copy, 'death_queue', queue)
    set_field(copy, 'death_reason', reason)
    if generation > 1 then
      set_field(copy, 'generation', string.format('%.0f', generation))
    end
    redis.call('XADD', key_of('queue', home_of(name, copy)), '*', unpack(copy))
    local record = key_of('task', own)
    local writable = not foreign(record, 'hash')
    if writable and generation > 1 then
      used.begin(own, generation, kept)
    end
    if writable and kept then
      redis.call(
        'HSET', record, 'state', 'QUEUED', 'task', field(fields, 'task') or '', 'queue', name,
        'enqueued', moment
      )
      redis.call('PERSIST', record)
      note_wishes(own)
    end
  end
  return queues[1] and table.concat(queues, ':'), blocked
end

-- Put a message aside for good.  `kept` says whether the dead letters take it where there
-- is no exchange for it.  Fails, having written nothing, if they cannot.
local function dead_letter(queue, id, fields, reason, worker, error, limits, kept)
  local exchange, key = afterlife_of(queue, fields)
  local taken, blocked
  if exchange then
    taken, blocked = pass_on(queue, id, fields, reason, exchange, key)
  end
  if taken then
    if standing(id, generation_of(fields)) then
      redis.call('HSET', key_of('task', id), 'dead_lettered_to', taken)
    end
  elseif kept or blocked then
    bury(queue, id, fields, reason, worker, error, limits)
  end
end
