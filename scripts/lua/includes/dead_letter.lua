-- What happens to a message that will not be run: the dead-letter exchange of its queue gets
-- copies, or it is kept as a dead letter.
--
-- @include keys
-- @include messages
-- @include requeue
-- @include emit
-- @include dead
-- @include generations
-- @include ids
-- @include route

local MOST_DEATHS = 10 -- a letter that has died more often is in a cycle of exchanges

-- Fields about the run that has ended: a copy starts without them.
local RUN_FIELDS = {
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

-- The dead-letter exchange of a queue and the routing key; nil if it has none.
local function dead_letter_exchange_of(queue, fields)
  local settings = redis.call('HGET', key_of('queues'), queue)
  if not settings or settings == '{}' then
    return nil
  end
  settings = cjson.decode(settings)
  if type(settings.dead_letter_exchange) ~= 'string' or field(fields, 'signature') then
    return nil -- a signature covers the queue: no worker would run it in another one
  end
  local key = settings.dead_letter_routing_key
  if type(key) ~= 'string' then
    key = field(fields, 'routing_key') or queue
  end
  return settings.dead_letter_exchange, key
end

-- The queues to which an exchange sends a letter.  None, and true, if one of them cannot take
-- it: then no copy is sent.
local function next_queues(fields, deaths, exchange, key)
  local queues = deaths <= MOST_DEATHS and route(exchange, key, headers_of(fields)) or {}
  for _, name in ipairs(queues) do
    local home = key_of('queue', home_of(name, fields))
    if too_large(fields) or wrong_type(home, 'stream') or stream_is_out_of_ids(home) then
      return {}, true
    end
  end
  return queues, false
end

-- Send a copy to a queue, as a task of its own: ID@QUEUE.  Where an earlier dead letter has left a
-- record, the copy begins a generation.
local function emit_copy(queue, own, copy)
  local generation = generations().next({ own })
  local message = sent_again(copy, generation)
  if wrong_type(key_of('task', own), 'hash') then -- then its record is not written
    if message.generation then
      set_field(copy, 'generation', message.generation)
    end
    message.keep, message.generation = false, false
  end
  emit(message, queue_named(queue), own, unpack(copy))
end

-- Send a copy to each queue that the dead-letter exchange leads to.  Limits of those queues do not
-- count.  Returns the queues, joined, if any; and whether one of them refused it.
local function emit_copies(queue, id, fields, reason, exchange, key)
  local deaths = number_in(fields, 'deaths', 0) + 1
  local queues, refused = next_queues(fields, deaths, exchange, key)
  for _, name in ipairs(queues) do
    local copy = without(fields, RUN_FIELDS)
    set_field(copy, 'exchange', exchange)
    set_field(copy, 'routing_key', key)
    set_field(copy, 'deaths', tostring(deaths))
    set_field(copy, 'death_queue', queue)
    set_field(copy, 'death_reason', reason)
    emit_copy(name, id .. '@' .. name, copy)
  end
  return queues[1] and table.concat(queues, ':'), refused
end

-- Dead-letter a message.  `kept` says whether it becomes a dead letter where no exchange takes
-- it.  Fails, having written nothing, if the dead letters cannot be written.
local function dead_letter(queue, id, fields, reason, worker, error, limits, kept)
  local exchange, key = dead_letter_exchange_of(queue, fields)
  local queues, refused
  if exchange then
    queues, refused = emit_copies(queue, id, fields, reason, exchange, key)
  end
  if queues then
    if status_of(id, generation_of(fields)) then
      redis.call('HSET', key_of('task', id), 'dead_lettered_to', queues)
    end
  elseif kept or refused then
    add_dead_letter(queue, id, fields, reason, worker, error, limits)
  end
end
