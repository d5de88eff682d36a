#!lua flags=allow-oom
-- List the leases; and once in a while, the consumers of the groups that have none.
--
-- A consumer that a group knows and the lease table does not is dead: it read messages after
-- it had been declared dead, or its recovery was interrupted.  It is reported when two scans
-- have found it so: a worker may be recovering it just now.
--
-- KEYS  root of the namespace
-- ARGV  every                        milliseconds between two scans of the groups, by
--                                    whichever worker; the shortest one that is asked for
--
-- Answers {server's time, [consumer, deadline, consumer, deadline, …], [consumers without a
-- lease], [consumer, milliseconds that its lease lasts, …]}.
-- Refuses with  WRONGTYPE key …
--
-- @include keys
-- @include clock
-- @include wrong_type
-- @include streams

need('zset', key_of('leases'))
need('hash', key_of('lease_ms'))

local now, every = clock(), tonumber(ARGV[1])
local orphans, seen = {}, {}

local function scan_group(key)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, 'workers')
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local name = consumer[2]
    if not seen[name] and not redis.call('ZSCORE', key_of('leases'), name) then
      local first = redis.call('ZSCORE', key_of('orphans'), name)
      if not first then
        redis.call('ZADD', key_of('orphans'), now, name)
        redis.call('PEXPIRE', key_of('orphans'), 4 * every)
      elseif now - tonumber(first) >= every then
        orphans[#orphans + 1] = name
      end
    end
    seen[name] = true
  end
end

if redis.call('PTTL', key_of('group_scan')) > every then
  redis.call('DEL', key_of('group_scan')) -- the last scan was by a worker with longer intervals
end
if redis.call('SET', key_of('group_scan'), '1', 'NX', 'PX', every) then
  for _, queue in ipairs(redis.call('HKEYS', key_of('queues'))) do
    for _, key in ipairs(streams_of(queue)) do
      scan_group(key)
    end
  end
end
return {
  now,
  redis.call('ZRANGE', key_of('leases'), 0, -1, 'WITHSCORES'),
  orphans,
  redis.call('HGETALL', key_of('lease_ms')),
}
