-- The name of every key.  KEYS[1] is the namespace's root, such as `{streamq}`:
-- its braces keep all keys of a namespace in one hash slot.

local root = KEYS[1]

-- One constructor, because this runs anew with every call of every script.
local keys = {
  exchanges = root .. ':exchanges',
  alternates = root .. ':alternates',
  queues = root .. ':queues',
  leases = root .. ':leases',
  workers = root .. ':workers',

  -- The stream of a queue at a priority level; level 0 is the queue's own stream.
  queue = function(name, level)
    if level and level > 0 then
      return root .. ':queue:' .. name .. ':p' .. level
    end
    return root .. ':queue:' .. name
  end,

  -- The stream of what was handed back or recovered: it goes first.
  returned = function(name)
    return root .. ':queue:' .. name .. ':returned'
  end,

  -- Every stream that a queue can have.
  streams = function(name)
    local base = root .. ':queue:' .. name
    local streams = { base, base .. ':returned' }
    for level = 1, 9 do
      streams[level + 2] = base .. ':p' .. level
    end
    return streams
  end,

  bindings = function(exchange)
    return root .. ':bindings:' .. exchange
  end,

  routes = function(exchange)
    return root .. ':routes:' .. exchange
  end,

  task = function(id)
    return root .. ':task:' .. id
  end,

  dedup = function(id)
    return root .. ':dedup:' .. id
  end,

  lane = function(lane)
    return root .. ':lane:' .. lane
  end,

  dead = function(name)
    return root .. ':dead:' .. name
  end,

  dead_letter = function(name, id)
    return root .. ':dead:' .. name .. ':' .. id
  end,

  started = function(consumer)
    return root .. ':started:' .. consumer
  end,

  settled = function(consumer)
    return root .. ':settled:' .. consumer
  end,

  reply = function(name)
    return root .. ':reply:' .. name
  end,

  worker = function(node)
    return root .. ':worker:' .. node
  end,

  script = function(name)
    return root .. ':script:' .. name
  end,
}
