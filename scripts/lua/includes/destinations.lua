-- The destinations of messages: their queues, and whether these may take them.
--
-- @include keys
-- @include ids
-- @include queues
-- @include route
-- @include streams
-- @include wrong_type

local known_destinations = {}
-- Most messages of a call go where the one before went.
local last_exchange, last_key, last_destination

-- Exchange, key and headers as one text, different for each combination.
local function destination_text(message)
  local at = message.at
  local place = ARGV[at] .. '\n' .. #ARGV[at + 1] .. '\n' .. ARGV[at + 1]
  for i = at + 9, message.headers_to do
    place = place .. '\n' .. #ARGV[i] .. '\n' .. ARGV[i]
  end
  return place
end

-- The queues of a message and their names joined: {queues, answer}.  Nil for no exchange.
local function look_up(message)
  local at = message.at
  local exchange, key = ARGV[at], ARGV[at + 1]
  if exchange == '' then
    local queue = queue_named(key)
    return { queues = queue.declared and { queue } or {}, answer = queue.name }
  end
  local names = route(exchange, key, { unpack(ARGV, at + 9, message.headers_to) })
  local queues = {}
  for i, name in ipairs(names or {}) do
    queues[i] = queue_named(name)
  end
  return names and { queues = queues, answer = table.concat(names, ':') }
end

-- As look_up, which is called once for each combination of exchange, key and headers.
local function destination_of(message)
  local at = message.at
  local bare = message.headers_to < at + 9
  if bare and ARGV[at] == last_exchange and ARGV[at + 1] == last_key then
    return last_destination
  end
  local place = destination_text(message)
  local destination = known_destinations[place]
  if not destination then
    destination = look_up(message)
    known_destinations[place] = destination
  end
  if bare and destination then
    last_exchange, last_key, last_destination = ARGV[at], ARGV[at + 1], destination
  end
  return destination
end

-- Count one message more in a queue with a limit.  Returns whether it has room.
local function has_room(queue)
  if not queue.length then
    queue.length = 0
    for _, stream in ipairs(streams_of(queue.name)) do
      queue.length = queue.length + redis.call('XLEN', stream)
    end
  end
  queue.length = queue.length + 1
  return queue.length <= queue.max_length
end

-- Find the queues of the messages that were not accepted before.  Returns the first refusal, or
-- nil; then how many entries and scheduled messages they make, and the last one that makes any.
local function assign_queues(messages)
  local writes, writer = 0, nil
  for i, message in ipairs(messages) do
    if not message.answer and not message.same_as then
      local destination = destination_of(message)
      if not destination then
        return refusal('NOEXCHANGE', i - 1, ARGV[message.at])
      elseif not destination.queues[1] then
        return refusal('UNROUTABLE', i - 1, ARGV[message.at], ARGV[message.at + 1])
      end
      for _, queue in ipairs(message.in_use and {} or destination.queues) do
        if not queue.readable then
          return refusal('BADSETTINGS', i - 1, queue.name)
        elseif queue.max_length and not has_room(queue) then
          return refusal('QUEUEFULL', i - 1, queue.name, queue.max_length)
        end
      end
      message.destination = destination
      message.answer = message.in_use and destination.answer
      if not message.in_use then
        writes, writer = writes + #destination.queues, message
      end
    end
  end
  return nil, writes, writer
end

-- The refusal of the first message whose stream is out of ids; nil if all can be added.  Fails if
-- the key of a stream has another type.  Most messages of a call go where the one before went.
local function find_out_of_ids(messages)
  local asked, destination_before, priority_before = {}, nil, nil
  for i, message in ipairs(messages) do
    local destination, priority = message.destination, message.priority
    local same = destination == destination_before and priority == priority_before
    if destination and not (same or message.later or message.in_use) then
      for _, queue in ipairs(destination.queues) do
        local stream = stream_for(queue, priority)
        if not asked[stream] then
          asked[stream] = true
          need('stream', key_of('queue', stream))
          if stream_is_out_of_ids(key_of('queue', stream)) then
            return refusal('OUTOFIDS', i - 1, queue.name)
          end
        end
      end
      destination_before, priority_before = destination, priority
    end
  end
end
