-- Keys that somebody else has written to.  A script does not roll back, so it looks before
-- it writes what might be refused half-way.

-- The type of what stands in the place of a stream, a zset …; nil if nothing else does.
local function foreign(key, kind)
  local found = redis.call('TYPE', key).ok
  return found ~= 'none' and found ~= kind and found or nil
end

-- Fail, with the name of the key, if it is of another type.
local function need(kind, key)
  local found = foreign(key, kind)
  if found then
    error({ err = 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind })
  end
end

-- Why a function failed that was called by `pcall`: Redis's own errors are tables.
local function reason_of(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end
