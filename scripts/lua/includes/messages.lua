-- Messages in the hands of a worker: where they came from, and where else they may go.

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

-- The id of a message; one that was added without an id is named after its entry.
local function id_of(stream, entry, fields)
  return field(fields, 'id') or (queue_of(stream) .. '-' .. entry)
end

-- More fields than a script can pass on: nobody but a hand types such a message.
local function too_large(fields)
  return #fields > 7800
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

-- Put a message at the front of its queue again, as a new entry.
local function give_back(stream, entry, fields)
  local id = id_of(stream, entry, fields)
  set_field(fields, 'id', id)
  redis.call('XADD', key_of('queue', queue_of(stream) .. ':returned'), '*', unpack(fields))
  take(stream, entry)
  if redis.call('HGET', key_of('task', id), 'state') == 'STARTED' then
    redis.call('HSET', key_of('task', id), 'state', 'QUEUED')
    redis.call('HDEL', key_of('task', id), 'started', 'worker')
  end
end
