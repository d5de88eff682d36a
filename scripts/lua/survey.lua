#!lua flags=allow-oom
-- Who lives, by the lease table; and once in a while, who is dead whatever it says.
--
-- A consumer that a group knows and the lease table does not is dead: what it holds was
-- read after it had been declared so, or was left behind by whoever recovered it.  It is
-- named when it has been so for two looks: whoever recovers it may be at it just now.
--
-- KEYS  root of the namespace
-- ARGV  every                        milliseconds for which the groups are not looked at
--                                    again, unless by somebody who looks more often
--
-- Answers {server's time, consumer, deadline, consumer, deadline, … as one list,
-- consumers without a lease, and how many milliseconds the lease of each consumer lasts
-- in the same manner}.
-- Refuses with  WRONGTYPE key …
--
-- @include keys
-- @include clock
-- @include foreign
-- @include streams

need('zset', key_of('leases'))
need('hash', key_of('lease_ms'))

local now, every = clock(), tonumber(ARGV[1])
local orphans, seen = {}, {}

local function look_at(key)
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

if redis.call('PTTL', key_of('survey')) > every then
  redis.call('DEL', key_of('survey')) -- whoever took the turn looks more seldom
end
if redis.call('SET', key_of('survey'), '1', 'NX', 'PX', every) then
  for _, queue in ipairs(redis.call('HKEYS', key_of('queues'))) do
    for _, key in ipairs(streams_of(queue)) do
      look_at(key)
    end
  end
end
return {
  now,
  redis.call('ZRANGE', key_of('leases'), 0, -1, 'WITHSCORES'),
  orphans,
  redis.call('HGETALL', key_of('lease_ms')),
}
