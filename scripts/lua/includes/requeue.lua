-- Requeue: how a message that was taken out of its queue goes back into one of its streams, or is
-- scheduled again, and what its record says then.
--
-- @include keys
-- @include messages
-- @include queues
-- @include emit
-- @include scheduled
-- @include wrong_type

-- The stream of a queue that a message of its priority belongs to, by its short name.
local function home_of(queue, fields)
  local priority = number_in(fields, 'priority', 0)
  if priority <= 0 then
    return queue
  end
  local settings = queue_named(queue)
  if not settings.readable then
    error({ err = 'BADSETTINGS ' .. queue })
  end
  return stream_for(settings, priority)
end

-- Add a message to a stream of its queue.  If that is out of ids, it goes to `:returned`
-- instead; if it is `:returned` itself, to the stream of its priority.
local function add_message(stream, fields)
  if add_entry(stream, unpack(fields)) then
    return
  end
  local queue = queue_of(stream)
  local front = queue .. ':returned'
  local other = stream == front and home_of(queue, fields) or front
  local _, refused = add_entry(other, unpack(fields))
  if refused then
    error(refused)
  end
end

-- Add a message to the quarantine stream of its queue.
local function add_in_quarantine(queue, fields)
  redis.call('SADD', key_of('quarantine'), queue)
  local _, refused = add_entry(queue .. ':quarantine', unpack(fields))
  if refused then
    error(refused)
  end
end

-- The stream of a queue that is read first; for a quarantined message, the quarantine stream.
local function front_of(stream)
  local quarantined = string.find(stream, ':quarantine', 1, true)
  return queue_of(stream) .. (quarantined and ':quarantine' or ':returned')
end

-- Add a message to the stream that `front_of` names.
local function add_in_front(front, fields)
  if string.find(front, ':quarantine', 1, true) then
    add_in_quarantine(queue_of(front), fields)
  else
    add_message(front, fields)
  end
end

-- Write into the record of a task that it waits again, unless it has ended.
local function show_waiting(id, generation)
  local record, known = key_of('task', id), status_of(id, generation)
  if known and not known.ended and known.state ~= 'QUEUED' then
    redis.call('HSET', record, 'state', 'QUEUED')
    redis.call('HDEL', record, 'started', 'worker', 'meta', 'meta_content_type')
  end
end

-- Write into the record of a scheduled task that it waits in its queue.  State RETRY stays until
-- it starts.
local function show_promoted(id, generation)
  local record, known = key_of('task', id), status_of(id, generation)
  if known and known.state == 'SCHEDULED' then
    redis.call('HSET', record, 'state', 'QUEUED')
  end
  if known and not known.ended then
    redis.call('HDEL', record, 'eta')
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

-- Schedule a message again, for a moment as text; `show_due` writes that into its record.  Fails
-- before it writes anything if a key has another type.
local function schedule_again(stream, id, fields, due)
  local generation = generation_of(fields)
  set_field(fields, 'id', id)
  set_field(fields, 'eta', due)
  need('zset', key_of('scheduled'))
  need('hash', scheduled_key(name_of(id, generation)))
  schedule(stream, id, generation, fields, due)
end

-- Write into the record of a task when it is due, and further fields, unless it has ended.
local function show_due(id, generation, due, ...)
  local known = status_of(id, generation)
  if known and not known.ended then
    redis.call('HSET', key_of('task', id), 'eta', due, ...)
  end
end
