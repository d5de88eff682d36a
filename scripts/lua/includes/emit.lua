-- Emit: adds messages to the streams of queues.
--
-- A message that is new in its queue goes through `emit`, with its record: it was sent, it is the
-- copy of a dead letter, or a dead letter that is retried.  One that goes back into a queue
-- (requeue.lua) uses `add_entry`.  Only publish_plain.lua, for speed, and repair.lua, which
-- rebuilds a stream, have lines of their own.
--
-- @include keys
-- @include now
-- @include ids
-- @include queues
-- @include scheduled
-- @include generations
-- @include early_waiters

-- Add an entry to a stream of a queue.  Returns the entry; nil and the error if the stream is out
-- of ids.
local function add_entry(stream, ...)
  local entry = redis.pcall('XADD', key_of('queue', stream), '*', ...)
  if type(entry) ~= 'table' then
    return entry
  elseif is_out_of_ids(entry) then
    return nil, entry
  end
  error(entry)
end

-- Add the entry of a message that is new in its queue.  If its stream is out of ids: nil where the
-- message is the sole one of a call, which then refuses; else it goes to `:returned`, and if that is
-- out of ids too, it is scheduled under its id until the queue is repaired.  '' for no entry.
local function add_new(message, stream, queue, id, ...)
  local entry = add_entry(stream, ...)
  if entry or message.sole then
    return entry
  end
  local refused
  entry, refused = add_entry(queue.name .. ':returned', ...)
  if refused and id == '' then
    error(refused)
  elseif refused then
    schedule(stream, id, message.generation or '1', { ... }, now)
  end
  return entry or ''
end

-- The fields that are added to a message: its generation, when it expires, and when the time to
-- live of its queue ends.  Nil for none, as for most messages.
local function added_fields(message, queue)
  local ttl = not message.ageless and queue.message_ttl
  if not (message.generation or message.expires or ttl) then
    return nil
  end
  local added = {}
  if message.generation then
    added[1], added[2] = 'generation', message.generation
  end
  if message.expires then
    added[#added + 1] = 'expires'
    added[#added + 1] = string.format('%.0f', message.expires)
  end
  if ttl then
    added[#added + 1] = 'stale'
    added[#added + 1] = string.format('%.0f', (message.later and message.due or now) + ttl)
  end
  return added
end

-- Write the record of a message that waits: in a queue (`name` is queue) or, of a fan-out, its
-- copies in several.  A chosen id may have a record of the generation before, and early waiters.
local function write_record(message, id, name, value)
  local key = key_of('task', id)
  if message.generation then
    generations().begin(id, message.generation, message.keep)
  end
  if not message.keep then
    return
  end
  if message.later then
    redis.call(
      'HSET', key, 'state', 'SCHEDULED', 'task', message.task, name, value, 'enqueued', moment,
      'eta', message.later
    )
  else
    redis.call(
      'HSET', key, 'state', 'QUEUED', 'task', message.task, name, value, 'enqueued', moment
    )
  end
  if message.chosen then
    redis.call('PERSIST', key)
    note_early_waiters(id)
  end
end

-- Put a message into a queue, now or at its moment, and write its record.
--
-- `message` has
--   task, priority
--   generation   as text; false for the first
--   keep         whether it has a record
--   chosen       whether its id may have been used before
--   later, due   the moment when it is due, as text and as a number; nil for now
--   expires      a moment, or false
--   ageless      whether the time to live of its queue does not count
--   sole         whether a stream that is out of ids refuses it: then nothing is written
-- `id` is '' for one that is named after its entry.  Then follow names and values of its fields.
--
-- Returns whether it was taken.
local function emit(message, queue, id, ...)
  local stream, added = stream_for(queue, message.priority), added_fields(message, queue)
  local entry
  if message.later then
    local fields = { ... }
    fields[#fields + 1], fields[#fields + 2] = 'eta', message.later
    for _, text in ipairs(added or {}) do
      fields[#fields + 1] = text
    end
    schedule(stream, id, message.generation or '1', fields, message.later)
  elseif added then
    if id ~= '' then
      added[#added + 1], added[#added + 2] = 'id', id
    end
    for _, text in ipairs({ ... }) do
      added[#added + 1] = text
    end
    entry = add_new(message, stream, queue, id, unpack(added))
  elseif id == '' then
    entry = add_new(message, stream, queue, id, ...)
  else
    entry = add_new(message, stream, queue, id, 'id', id, ...)
  end
  if not (entry or message.later) then
    return false
  end
  if message.keep or message.generation then
    write_record(message, id ~= '' and id or queue.name .. '-' .. entry, 'queue', queue.name)
  end
  return true
end
