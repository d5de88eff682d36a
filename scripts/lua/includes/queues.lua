-- The settings of queues that decide where a message goes.  Each queue is looked up once a call.
--
-- @include keys

local known_queues = {}

-- A queue: whether it is declared, whether its settings can be read, and what they say.
local function queue_named(name)
  local queue = known_queues[name]
  if not queue then
    local settings = redis.call('HGET', key_of('queues'), name)
    queue = {
      name = name,
      declared = settings ~= false,
      readable = true,
      max_priority = nil,
      max_length = nil,
      message_ttl = nil,
      length = nil,
    }
    if settings and settings ~= '{}' then
      local is_json, decoded = pcall(cjson.decode, settings)
      queue.readable = is_json and type(decoded) == 'table'
      settings = queue.readable and decoded or {}
      queue.max_priority = tonumber(settings.max_priority)
      queue.max_length = tonumber(settings.max_length)
      queue.message_ttl = tonumber(settings.message_ttl)
    end
    known_queues[name] = queue
  end
  return queue
end

-- The short name of the stream of a queue that a message of this priority goes to.
local function stream_for(queue, priority)
  if queue.max_priority and priority > 0 then
    local level = math.floor(math.min(priority, queue.max_priority))
    if level >= 1 then
      return queue.name .. ':p' .. level
    end
  end
  return queue.name
end
