-- One message of a call, put into all queues that it is routed to.
--
-- @include keys
-- @include generations
-- @include emit

-- The generation that a message begins, the same for all its copies; false for the first.
local function generation_for(message, queues)
  local ids = { message.id }
  for i, queue in ipairs(#queues > 1 and queues or {}) do
    ids[i + 1] = message.id .. '@' .. queue.name
  end
  local generation = generations().next(ids)
  return generation > 1 and string.format('%.0f', generation)
end

-- Put a message, whose destination is known, into its queues; false if the only one is out of ids.
local function publish_message(message)
  local queues, answer = message.destination.queues, message.destination.answer
  local from, to = message.headers_to + 2, message.to
  if message.chosen then
    message.generation = generation_for(message, queues)
  end
  if #queues == 1 then
    if not emit(message, queues[1], message.id, unpack(ARGV, from, to)) then
      return false
    end
  else
    for _, queue in ipairs(queues) do
      local id = message.id == '' and '' or message.id .. '@' .. queue.name
      emit(message, queue, id, unpack(ARGV, from, to))
    end
    if message.id ~= '' and (message.keep or message.generation) then
      write_record(message, message.id, 'copies', answer)
    end
  end
  if message.window > 0 then
    redis.call('SET', key_of('dedup', message.id), answer, 'PX', message.window)
  end
  message.answer = answer
  return true
end
