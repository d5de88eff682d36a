#!lua flags=allow-oom
-- Renew the leases of a worker's consumers, store what the worker is doing, and return the news
-- for its supervisor.
--
-- KEYS  root of the namespace
-- ARGV  node, lease in milliseconds
--       count, then as many consumers
--       then names and values that describe the worker
--
-- Answers {server's time, moment of the next scheduled message or '', the consumers that have
-- no lease any more (they are fenced), how many tasks are to be terminated, the queues with
-- quarantined messages that no runner has, how many workers come before this one, the schedule
-- that is due first and its moment, or '' and ''}.
--
-- @include keys
-- @include clock
-- @include hashes

local OVERDUE_MS = 60000

local now, node, lease_ms = clock(), ARGV[1], tonumber(ARGV[2])
local last = 3 + tonumber(ARGV[3])

local fenced = {}
for i = 4, last do
  if redis.call('ZSCORE', key_of('leases'), ARGV[i]) then
    redis.call('ZADD', key_of('leases'), 'XX', now + lease_ms, ARGV[i])
  else
    fenced[#fenced + 1] = ARGV[i]
  end
end

-- `pcall`: a key of another type must not keep the leases from being renewed.
redis.call('DEL', key_of('worker', node))
redis.call('HSET', key_of('worker', node), 'seen', now)
write_hash(key_of('worker', node), ARGV, last + 1)
redis.call('PEXPIRE', key_of('worker', node), 3 * lease_ms)
redis.pcall('ZADD', key_of('workers'), now + 3 * lease_ms, node)
redis.pcall('ZREMRANGEBYSCORE', key_of('workers'), '-inf', now)
redis.pcall('ZREMRANGEBYSCORE', key_of('terminating'), '-inf', now)

local quarantined = redis.pcall('SMEMBERS', key_of('quarantine'))
if quarantined.err then
  quarantined = {}
end
for i = #quarantined, 1, -1 do
  local key = key_of('queue', quarantined[i] .. ':quarantine')
  local count = redis.pcall('XLEN', key)
  if count == 0 then
    redis.call('SREM', key_of('quarantine'), quarantined[i])
    table.remove(quarantined, i)
  elseif type(count) == 'table' or redis.pcall('XPENDING', key, 'workers')[1] == count then
    table.remove(quarantined, i) -- another type, or runners have all of them
  end
end

-- Schedules are fired by whoever comes first in the order of names; the others wait a little.
-- One that is overdue for long is fired by nobody: it must not hide the others.
local place, schedule = 0, {}
if redis.call('EXISTS', key_of('schedules')) == 1 then
  schedule = redis.pcall(
    'ZRANGE', key_of('schedules'), now - OVERDUE_MS, '(inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'
  )
  local names = redis.pcall('ZRANGE', key_of('workers'), 0, -1)
  for _, name in ipairs(names.err and {} or names) do
    place = name < node and place + 1 or place
  end
end

local first = redis.pcall('ZRANGE', key_of('scheduled'), 0, 0, 'WITHSCORES')
local terminating = redis.pcall('ZCARD', key_of('terminating'))
return {
  now,
  first.err and '0' or first[2] or '', -- promote.lua reports what is wrong
  fenced,
  tonumber(terminating) or 0,
  quarantined,
  place,
  schedule[1] or '',
  schedule[2] or '',
}
