-- The streams of a queue.  Level 0 of its priorities is the queue's own stream.  `:returned` has
-- what was handed back or recovered, and is read first.  `:quarantine` has messages that are
-- suspected of a crash: each is the sole task of a runner that does nothing else.
--
-- @include keys

local function level_key(queue, level)
  return key_of('queue', level > 0 and queue .. ':p' .. level or queue)
end

-- Create a stream and its consumer group unless they exist.  Returns an error reply on failure.
local function make_group(key)
  local made = redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  return made.err and not string.find(made.err, 'BUSYGROUP', 1, true) and made or nil
end

-- Every stream that a queue can have, in the order in which they are served.
local function streams_of(queue)
  local streams = { key_of('queue', queue .. ':quarantine'), key_of('queue', queue .. ':returned') }
  for level = 9, 0, -1 do
    streams[#streams + 1] = level_key(queue, level)
  end
  return streams
end
