#!lua
-- Publish plain messages of one task to one queue by its name: the short form of publish.lua.
--
-- The general script takes twice the time that most messages need: those with no exchange, no
-- headers, no priority, a new id, and a queue without limits.
--
-- KEYS  root of the namespace
-- ARGV  channel, number, queue, keep, task
--       count, then as many names and values that all of the messages have
--       then for each message: id, args, kwargs
--
-- Answers the queue, or '' if the messages need publish.lua: then nothing is written.  That
-- script also reports why a queue takes nothing, such as one that is out of ids.
-- Refuses with
--   STALE number newer                the channel has published another call under this number,
--                                     or a newer one

local CHANNEL_MEMORY_MS = 600000 -- a lost answer is asked for within seconds, or never

local root, channel, number, queue, task = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local memory_key, shared_to = root .. ':publisher:' .. channel, 6 + 2 * tonumber(ARGV[6])
-- A call that is sent again has the same number and first id.  The number alone may have been
-- used by another process too, where a whole machine was copied.
local mark = number .. ' ' .. (ARGV[shared_to + 1] or '')
local answer = mark .. '\n' .. queue

-- Store the answer and read the one before in one command: most calls are not repeated.
local before = redis.call('SET', memory_key, answer, 'PX', CHANNEL_MEMORY_MS, 'GET')

local function restore()
  if before then
    redis.call('SET', memory_key, before, 'PX', CHANNEL_MEMORY_MS)
  else
    redis.call('DEL', memory_key)
  end
end

local newest = before and string.match(before, '^%d+')
if newest and tonumber(newest) >= tonumber(number) then
  local last = string.match(before, '^[^\n]*')
  restore()
  if last == mark then
    return string.sub(before, #last + 2)
  end
  return redis.error_reply('STALE ' .. number .. ' ' .. newest)
end
if redis.pcall('HGET', root .. ':queues', queue) ~= '{}' then -- publish.lua reports an error
  restore()
  return ''
end

local stream, keep, now = root .. ':queue:' .. queue, ARGV[4] == '1', nil
for at = shared_to + 1, #ARGV, 3 do
  local id = ARGV[at]
  local entry = redis.pcall(
    'XADD', stream, '*', 'id', id, 'task', task, 'args', ARGV[at + 1], 'kwargs', ARGV[at + 2],
    unpack(ARGV, 7, shared_to)
  )
  if type(entry) == 'table' then -- all or none: the first one decides
    local spent = string.find(entry.err, 'last possible ID', 1, true)
    if not spent or at == shared_to + 1 then
      restore()
      return spent and '' or entry
    end
    entry = redis.pcall( -- the rest goes to the stream that is read first
      'XADD', stream .. ':returned', '*', 'id', id, 'task', task, 'args', ARGV[at + 1], 'kwargs',
      ARGV[at + 2], unpack(ARGV, 7, shared_to)
    )
    if type(entry) == 'table' then -- or is scheduled, due at once, until the queue is repaired
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
