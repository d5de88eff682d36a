#!lua flags=allow-oom
-- Claim the name of a worker, unless another worker has it.
--
-- A worker is identified by its process and the place where it runs: two workers of one name
-- differ in nothing else.  Whether the other one is alive is decided by the caller: it calls
-- again and names the one that is gone.
--
-- KEYS  root of the namespace
-- ARGV  node, lease in milliseconds
--       host, pid, place             of the worker that wants the name
--       pid, place                   of the one that is gone; '' if none is known to be
--
-- Answers {} if the worker has the name now, else {host, pid, place} of the one that has it,
-- with '' for a field that is missing.
--
-- @include keys
-- @include clock

local key, lease_ms = key_of('worker', ARGV[1]), tonumber(ARGV[2])
local function is(owner, pid, place)
  return owner[2] == pid and owner[3] == place
end

local owner = redis.pcall('HMGET', key, 'host', 'pid', 'place')
if owner.err then -- another type; the next renewal would replace it too
  redis.call('DEL', key)
  owner = {}
end
for at = 1, 3 do
  owner[at] = owner[at] or ''
end

local free = owner[1] == '' and owner[2] == ''
if free or is(owner, ARGV[4], ARGV[5]) or is(owner, ARGV[6], ARGV[7]) then
  redis.call('DEL', key)
  redis.call('HSET', key, 'host', ARGV[3], 'pid', ARGV[4], 'place', ARGV[5], 'seen', clock())
  redis.call('PEXPIRE', key, 3 * lease_ms)
  return {}
end
return owner
