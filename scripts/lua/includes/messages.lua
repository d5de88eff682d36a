-- Messages that a worker holds: where they came from, and how they go back into a stream.
--
-- @include keys
-- @include records
-- @include ids

-- The queue of a stream: `mail` for `mail`, `mail:p9` and `mail:returned`.
local function queue_of(stream)
  return string.match(stream, '^[^:]*')
end

-- The fields of an entry as names and values; nil if it is gone.
local function fields_of(stream, entry)
  local found = redis.call('XRANGE', key_of('queue', stream), entry, entry)[1]
  return found and found[2]
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
end

-- A number in a field; `otherwise` if it is none, as in a message typed by hand.
local function number_in(fields, name, otherwise)
  return tonumber(field(fields, name) or '') or otherwise
end

-- How long the record of a task is kept (ms): by its message, else by its worker.  No message
-- can keep a record for ever.
local function life_of(fields, otherwise)
  local asked = field(fields, 'result_expires') or ''
  return #asked < 16 and string.match(asked, '^0*([1-9]%d*)$') or otherwise
end

local function set_field(fields, name, value)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      fields[i + 1] = value
      return
    end
  end
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end

-- The generation of its id that a message belongs to.
local function generation_of(fields)
  return generation_in(field(fields, 'generation'))
end

-- The fields without those of these names.
local function without(fields, names)
  local left = {}
  for i = 1, #fields, 2 do
    if not names[fields[i]] then
      left[#left + 1] = fields[i]
      left[#left + 1] = fields[i + 1]
    end
  end
  return left
end

-- The id of a message; one that was added without an id is named after its entry.
local function id_of(stream, entry, fields)
  return field(fields, 'id') or (queue_of(stream) .. '-' .. entry)
end

-- Whether a message has more fields than `unpack` takes: only one typed by hand has.
local function too_large(fields)
  return #fields > 7800
end

-- The stream of a queue that a message of its priority belongs to, by its short name.
local function home_of(queue, fields)
  local priority = number_in(fields, 'priority', 0)
  if priority > 0 then
    local settings = redis.call('HGET', key_of('queues'), queue)
    local most = settings and settings ~= '{}' and tonumber(cjson.decode(settings).max_priority)
    local level = most and math.min(priority, most) or 0
    if level >= 1 then
      return queue .. ':p' .. math.floor(level)
    end
  end
  return queue
end

-- Acknowledge and delete an entry.  True if it was still to be acknowledged: a message goes to
-- another consumer only as a new entry, so the one that acknowledges it is its owner.
local function ack_and_delete(stream, entry)
  local key = key_of('queue', stream)
  if redis.call('XACK', key, 'workers', entry) == 0 then
    return false
  end
  redis.call('XDEL', key, entry)
  return true
end

-- Write into the record of a task that it waits again, unless it has ended.
local function show_waiting(id, generation)
  local record, known = key_of('task', id), status_of(id, generation)
  if known and not known.ended and known.state ~= 'QUEUED' then
    redis.call('HSET', record, 'state', 'QUEUED')
    redis.call('HDEL', record, 'started', 'worker', 'meta', 'meta_content_type')
  end
end

-- Whether a task was revoked while it ran.
local function was_revoked(id, fields)
  local known = status_of(id, generation_of(fields))
  return known and known.revoked
end

-- Add a message to a stream of its queue.  If that is out of ids, it goes to `:returned`
-- instead; if it is `:returned` itself, to the stream of its priority.
local function add_message(stream, fields)
  local entry = redis.pcall('XADD', key_of('queue', stream), '*', unpack(fields))
  if type(entry) ~= 'table' then
    return
  elseif is_out_of_ids(entry) then
    local queue = queue_of(stream)
    local front = queue .. ':returned'
    stream = stream == front and home_of(queue, fields) or front
  end
  redis.call('XADD', key_of('queue', stream), '*', unpack(fields))
end

-- The stream of a queue that is read first; for a quarantined message, the quarantine stream.
local function front_of(stream)
  local quarantined = string.find(stream, ':quarantine', 1, true)
  return queue_of(stream) .. (quarantined and ':quarantine' or ':returned')
end

-- Add a message to the stream that `front_of` names.
local function add_in_front(front, fields)
  if string.find(front, ':quarantine', 1, true) then
    redis.call('SADD', key_of('quarantine'), queue_of(front))
    redis.call('XADD', key_of('queue', front), '*', unpack(fields))
  else
    add_message(front, fields)
  end
end

-- Hand back a message: to the front of its queue, as a new entry.
local function hand_back(stream, entry, fields)
  local id = id_of(stream, entry, fields)
  set_field(fields, 'id', id)
  add_in_front(front_of(stream), fields)
  ack_and_delete(stream, entry)
  show_waiting(id, generation_of(fields))
end
