#!lua flags=allow-oom
-- Delete an empty queue with its streams and every binding that leads to it.
--
-- A queue that holds messages, running ones included, is refused: purge it first, so that its
-- tasks end as REVOKED and no waiter is left.
--
-- KEYS  root of the namespace
-- ARGV  name
--
-- Answers how many bindings went with it, or -1 if there was no such queue.  Refuses with
--   NOTEMPTY name messages
--
-- @include keys
-- @include streams
-- @include route
-- @include topology

local name = ARGV[1]

if redis.call('HEXISTS', key_of('queues'), name) == 0 then
  return -1
end

local streams, held = streams_of(name), 0
for _, stream in ipairs(streams) do
  held = held + redis.call('XLEN', stream)
end
if held > 0 then
  return refusal('NOTEMPTY', name, held)
end

local dropped = drop_bindings_to('queue:' .. name)
redis.call('DEL', unpack(streams))
redis.call('HDEL', key_of('queues'), name)
return dropped
