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
--
-- @include clock

local root, lane, number, queue, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local memory = redis.call('GET', root .. ':lane:' .. lane)
if memory then
  local last = string.match(memory, '^%d+')
  if last == number then
    return string.sub(memory, #last + 2)
  elseif tonumber(last) > tonumber(number) then
    return redis.error_reply('STALE ' .. number .. ' ' .. last)
  end
end
if redis.call('HGET', root .. ':queues', queue) ~= '{}' then
  return ''
end

redis.call('XADD', root .. ':queue:' .. queue, '*', 'id', id, 'task', unpack(ARGV, 6))
if ARGV[5] == '1' then
  redis.call(
    'HSET', root .. ':task:' .. id, 'state', 'QUEUED', 'task', ARGV[6], 'queue', queue,
    'enqueued', clock()
  )
end
redis.call('SET', root .. ':lane:' .. lane, number .. '\n' .. queue, 'PX', 600000)
return queue
