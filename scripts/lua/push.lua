#!lua
-- Publish one plain message to a queue by its name: the short way of `publish`.
--
-- What `publish` does for any message costs twice the time of what most need: no exchange,
-- no headers, no priority, an id that is new, and a queue without limits.
--
-- KEYS  root of the namespace
-- ARGV  lane, number, queue, id, keep, task, then names and values for the stream, as for
--       `publish`
--
-- Answers the queue, or '' if this is not the way for it: nothing is written then.
-- Refuses with
--   STALE number newer                the lane has published under a newer number since

local LANE_MEMORY_MS = 600000 -- a reply is asked for again within seconds, or never

local root, lane, number, queue, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local place, answer = root .. ':lane:' .. lane, number .. '\n' .. queue

-- Remember the answer and look at the one before in one step: most calls are not repeated.
local before = redis.call('SET', place, answer, 'PX', LANE_MEMORY_MS, 'GET')

local function put_back()
  if before then
    redis.call('SET', place, before, 'PX', LANE_MEMORY_MS)
  else
    redis.call('DEL', place)
  end
end

if before then
  local last = string.match(before, '^%d+')
  if last == number then
    put_back()
    return string.sub(before, #last + 2)
  elseif tonumber(last) > tonumber(number) then
    put_back()
    return redis.error_reply('STALE ' .. number .. ' ' .. last)
  end
end
if redis.call('HGET', root .. ':queues', queue) ~= '{}' then
  put_back()
  return ''
end

local entry = redis.call('XADD', root .. ':queue:' .. queue, '*', 'id', id, 'task', unpack(ARGV, 6))
if ARGV[5] == '1' then
  redis.call(
    'HSET', root .. ':task:' .. id, 'state', 'QUEUED', 'task', ARGV[6], 'queue', queue,
    'enqueued', string.match(entry, '^%d+')
  )
end
return queue
