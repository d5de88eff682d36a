-- The streams of a queue.  Level 0 of its priorities is the queue's own stream; what was
-- handed back or recovered goes first; suspects of crashes are run alone, by a runner that
-- does nothing else.
--
-- @include keys

local function level_key(queue, level)
  return key_of('queue', level > 0 and queue .. ':p' .. level or queue)
end

-- Make a stream and its consumer group; what is there stays.  An error reply if it cannot be.
local function make_group(key)
  local made = redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  return made.err and not string.find(made.err, 'BUSYGROUP', 1, true) and made or nil
end

-- Every stream that a queue can have, in the order in which they are served.
local function streams_of(queue)
  local streams = { key_of('queue', queue .. ':suspects'), key_of('queue', queue .. ':returned') }
  for level = 9, 0, -1 do
    streams[#streams + 1] = level_key(queue, level)
  end
  return streams
end
