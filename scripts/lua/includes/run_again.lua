-- Run again: a message whose task is run again, in its own queue or another one, now or later.
--
-- @include keys
-- @include finish
-- @include messages
-- @include requeue
-- @include dead_letter
-- @include scheduled
-- @include streams
-- @include wrong_type

-- Whether a task that is to run again was revoked meanwhile: while its record said that it ran,
-- or that it waited.  A task that has ended was not revoked by that alone: somebody may have
-- added a second message of its id by hand.
local function revoked_meanwhile(id, generation)
  local known = status_of(id, generation)
  if known and known.state == 'REVOKED' then
    return redis.call('ZSCORE', key_of('revoked'), name_of(id, generation)) -- not removed yet
  end
  return known and known.revoked
end

-- Write into the record why a task is to run again.  It has not ended: no waiter is notified.
local function postpone(id, generation, state, ...)
  local record, known = key_of('task', id), status_of(id, generation)
  if state ~= '' and known and not known.ended then
    redis.call('HSET', record, 'state', state, ...)
    redis.call('HDEL', record, 'started', 'meta', 'meta_content_type')
    redis.call('PERSIST', record)
  elseif known then
    show_waiting(id, generation)
  end
end

-- The name of a queue; one that is written with a colon is declared if it is not.
local function wanted_queue(text)
  local name = string.match(text, '^:(.*)')
  if name and redis.call('HSETNX', key_of('queues'), name, '{}') == 1 then
    for _, stream in ipairs({ name, name .. ':returned' }) do
      make_group(key_of('queue', stream))
    end
  end
  return name or text
end

-- Put a message into its own queue if it is due; else schedule it.  Then promote.lua moves it,
-- or makes it a dead letter if the queue is gone.  `words` are those of `later` in follow.lua.
local function republish(stream, id, generation, fields, words)
  local due, named_queue = moment_of(words[2]), wanted_queue(words[3])
  local queue = named_queue ~= '' and named_queue or queue_of(stream)
  -- the task was run and not rejected: its time to live and its rejections are over
  fields = without(fields, { stale = true, rejections = true })
  set_field(fields, 'id', id)
  for i = 4, #words, 2 do
    local value = words[i + 1]
    if words[i] == 'expires' then
      value = string.format('%.0f', moment_of(value))
    end
    set_field(fields, words[i], value)
  end
  local home = home_of(queue, fields)
  local declared = redis.call('HEXISTS', key_of('queues'), queue) == 1
  local at_once = due <= now and named_queue == '' and declared
  if at_once and not wrong_type(key_of('queue', home), 'stream') then
    add_message(home, fields)
    return
  end
  local eta = string.format('%.0f', due)
  schedule_again(home, id, fields, eta)
  show_due(id, generation, eta, 'queue', queue)
end

-- Run the task of a message again; end it if it was revoked, or its message is too large to add.
-- `fields` are nil where the message is gone.
local function run_again(message, fields, consumer, limits)
  local id, stream, record = message.id, message.stream, message.record
  local generation, ended = message.generation, with_generation(message.generation)
  if revoked_meanwhile(id, generation) then
    finish(id, ended, 'REVOKED', message.expires, 'worker', consumer, 'reason', 'revoked')
  elseif fields and too_large(fields) then
    local why = 'too many fields'
    dead_letter(queue_of(stream), id, fields, why, consumer, why, limits, true)
    if status_of(id, generation) then
      finish(id, ended, 'FAILURE', message.expires, 'worker', consumer, unpack(record))
    end
  else
    if fields then
      republish(stream, id, generation, fields, message.words)
    end
    postpone(id, generation, message.state, 'worker', consumer, unpack(record))
  end
end
