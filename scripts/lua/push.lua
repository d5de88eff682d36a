#!lua
-- Publish plain messages of one task to one queue by its name: the short way of `publish`.
--
-- What `publish` does for any message costs twice the time of what most need: no exchange,
-- no headers, no priority, an id that is new, and a queue without limits.
--
-- KEYS  root of the namespace
-- ARGV  lane, number, queue, keep, task
--       count, then as many names and values that all of the messages have
--       then for each message: id, args, kwargs
--
-- Answers the queue, or '' if this is not the way for it: nothing is written then.  The long
-- way says why a queue takes nothing, such as one that is out of ids.
-- Refuses with
--   STALE number newer                the lane has published something else since under this
--                                     number or a newer one

local LANE_MEMORY_MS = 600000 -- a reply is asked for again within seconds, or never

local root, lane, number, queue, task = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local place, shared_to = root .. ':lane:' .. lane, 6 + 2 * tonumber(ARGV[6])
-- What is sent again has its number and its first id; number and name alone have also been
-- those of another process, where a whole machine was copied.
local mark = number .. ' ' .. (ARGV[shared_to + 1] or '')
local answer = mark .. '\n' .. queue

-- Remember the answer and look at the one before in one step: most calls are not repeated.
local before = redis.call('SET', place, answer, 'PX', LANE_MEMORY_MS, 'GET')

local function put_back()
  if before then
    redis.call('SET', place, before, 'PX', LANE_MEMORY_MS)
  else
    redis.call('DEL', place)
  end
end

local newest = before and string.match(before, '^%d+')
if newest and tonumber(newest) >= tonumber(number) then
  local last = string.match(before, '^[^\n]*')
  put_back()
  if last == mark then
    return string.sub(before, #last + 2)
  end
  return redis.error_reply('STALE ' .. number .. ' ' .. newest)
end
if redis.pcall('HGET', root .. ':queues', queue) ~= '{}' then -- an error is for the long way to say
  put_back()
  return ''
end

local stream, keep, now = root .. ':queue:' .. queue, ARGV[4] == '1', nil
for at = shared_to + 1, #ARGV, 3 do
  local id = ARGV[at]
  local entry = redis.pcall(
    'XADD', stream, '*', 'id', id, 'task', task, 'args', ARGV[at + 1], 'kwargs', ARGV[at + 2],
    unpack(ARGV, 7, shared_to)
  )
  if type(entry) == 'table' then -- the first one was refused, or none is
    local spent = string.find(entry.err, 'last possible ID', 1, true)
    if not spent or at == shared_to + 1 then
      put_back()
      return spent and '' or entry
    end
    entry = redis.pcall( -- all or none: what is left goes to the stream that is read first
      'XADD', stream .. ':returned', '*', 'id', id, 'task', task, 'args', ARGV[at + 1], 'kwargs',
      ARGV[at + 2], unpack(ARGV, 7, shared_to)
    )
    if type(entry) == 'table' then -- or waits outside, due at once, until the queue is repaired
      redis.call(
        'HSET', root .. ':scheduled:' .. id, 'id', id, 'scheduled_for', queue, 'task', task,
        'args', ARGV[at + 1], 'kwargs', ARGV[at + 2], unpack(ARGV, 7, shared_to)
      )
      redis.call('ZADD', root .. ':scheduled', 0, id)
    end
  end
  if keep then
    now = now or string.match(entry, '^%d+')
    redis.call(
      'HSET', root .. ':task:' .. id, 'state', 'QUEUED', 'task', task, 'queue', queue,
      'enqueued', now
    )
  end
end
return queue
