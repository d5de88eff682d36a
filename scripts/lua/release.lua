#!lua flags=allow-oom
-- Hand back messages that were read but not run: to the front of their queues, uncharged.
-- A task that was revoked while it ran, and gives its message back, ends instead.
--
-- KEYS  root of the namespace
-- ARGV  consumer, expires (of records, ms), then stream and entry of each message
--
-- Answers how many were handed back.  Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages

local consumer, expires = ARGV[1], ARGV[2]

if not redis.call('ZSCORE', key_of('leases'), consumer) then
  return redis.error_reply('FENCED ' .. consumer)
end

-- Whether the message waits again.
local function release(stream, entry, fields)
  local id = id_of(stream, entry, fields)
  if was_revoked(id, fields) then
    take(stream, entry)
    local life = life_of(fields, expires)
    finish(id, generation_of(fields), 'REVOKED', life, 'worker', consumer, 'reason', 'revoked')
    return false
  end
  give_back(stream, entry, fields)
  return true
end

local released = 0
for at = 3, #ARGV, 2 do
  local stream, entry = ARGV[at], ARGV[at + 1]
  local fields = fields_of(stream, entry)
  local pending = redis.call('XPENDING', key_of('queue', stream), 'workers', entry, entry, 1, consumer)
  local mine = fields and pending[1] and not too_large(fields)
  if mine and release(stream, entry, fields) then
    released = released + 1
  end
end
return released
