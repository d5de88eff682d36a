-- Messages that a worker holds: where they came from, and what they say.
--
-- @include keys
-- @include fields
-- @include records

-- The queue of a stream: `mail` for `mail`, `mail:p9` and `mail:returned`.
local function queue_of(stream)
  return string.match(stream, '^[^:]*')
end

-- The fields of an entry as names and values; nil if it is gone.
local function fields_of(stream, entry)
  local found = redis.call('XRANGE', key_of('queue', stream), entry, entry)[1]
  return found and found[2]
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

-- Whether a task was revoked while it ran.
local function was_revoked(id, fields)
  local known = status_of(id, generation_of(fields))
  return known and known.revoked
end
