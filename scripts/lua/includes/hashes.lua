-- Hashes that may have more fields than `unpack` takes at once.

-- Write names and values into a hash: those of a list, from a position on if not all.
local function write_hash(key, values, from)
  for at = from or 1, #values, 1000 do
    redis.call('HSET', key, unpack(values, at, math.min(at + 999, #values)))
  end
end
