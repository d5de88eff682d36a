-- Messages in the hands of a worker: where they came from, and where else they may go.
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

-- A number in a field: a hand-typed message may say anything.
local function number_in(fields, name, otherwise)
  return tonumber(field(fields, name) or '') or otherwise
end

-- How long the record of a task is kept (ms): as its message says, else as its worker does.
-- No message has a record kept for ever.
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

-- Which generation of its id a message belongs to.
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

-- More fields than a script can pass on: nobody but a hand types such a message.
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

-- Acknowledge and delete.  True if the entry was still to be acknowledged: a message
-- changes hands only as a new entry, so whoever acknowledges it is its owner.
local function take(stream, entry)
  local key = key_of('queue', stream)
  if redis.call('XACK', key, 'workers', entry) == 0 then
    return false
  end
  redis.call('XDEL', key, entry)
  return true
end

-- The record of a task that has not ended says again that it waits.
local function show_waiting(id, generation)
  local record, known = key_of('task', id), standing(id, generation)
  if known and not known.ended and known.state ~= 'QUEUED' then
    redis.call('HSET', record, 'state', 'QUEUED')
    redis.call('HDEL', record, 'started', 'worker', 'meta', 'meta_content_type')
  end
end

-- Whether a task was revoked while it ran.
local function was_revoked(id, fields)
  local known = standing(id, generation_of(fields))
  return known and known.revoked
end

-- Add a message to a stream of its queue.  Where that is out of ids, it goes to the stream that
-- is read first instead, or from there to its own.
local function put(stream, fields)
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

-- The stream that goes before all others of a queue; for a suspect, that of the suspects.
local function front_of(stream)
  local suspected = string.find(stream, ':suspects', 1, true)
  return queue_of(stream) .. (suspected and ':suspects' or ':returned')
end

-- Add a message to such a stream.
local function add_in_front(front, fields)
  if string.find(front, ':suspects', 1, true) then
    redis.call('SADD', key_of('suspects'), queue_of(front))
    redis.call('XADD', key_of('queue', front), '*', unpack(fields))
  else
    put(front, fields)
  end
end

-- Put a message at the front of its queue again, as a new entry.
local function give_back(stream, entry, fields)
  local id = id_of(stream, entry, fields)
  set_field(fields, 'id', id)
  add_in_front(front_of(stream), fields)
  take(stream, entry)
  show_waiting(id, generation_of(fields))
end
