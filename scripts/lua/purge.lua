#!lua flags=allow-oom
-- Remove messages that wait in a queue; their tasks end as REVOKED.
--
-- Messages that a worker has read stay.  Bounded: if the answer is the limit, the caller calls
-- again.
--
-- KEYS  root of the namespace
-- ARGV  queue, limit, expires (of the records, in milliseconds)
--
-- Answers how many were removed.
--
-- @include keys
-- @include streams
-- @include finish
-- @include messages

local queue, limit, expires = ARGV[1], tonumber(ARGV[2]), ARGV[3]

-- The newest entry that a worker has read.
local function last_read(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, group in ipairs(groups.err and {} or groups) do
    if field(group, 'name') == 'workers' then
      return field(group, 'last-delivered-id')
    end
  end
  return '0-0'
end

local removed = 0
local prefix = #root + #':queue:' + 1
for _, key in ipairs(streams_of(queue)) do
  local stream = string.sub(key, prefix)
  local waiting = redis.call('XRANGE', key, '(' .. last_read(key), '+', 'COUNT', limit - removed)
  for _, message in ipairs(waiting) do
    redis.call('XDEL', key, message[1])
    local id = id_of(stream, message[1], message[2])
    finish(id, message[2], 'REVOKED', expires, 'reason', 'purged')
    removed = removed + 1
  end
  if removed >= limit then
    break
  end
end
return removed
