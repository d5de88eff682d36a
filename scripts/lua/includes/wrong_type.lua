-- Keys that have another type than ours, because somebody else has written to them.  A script
-- does not roll back, so it checks a key before a write that might be refused half-way.
-- The type of a key if it exists and is not of this kind; else nil.
local function wrong_type(key, kind)
  local found = redis.call('TYPE', key).ok
  return found ~= 'none' and found ~= kind and found or nil
end

-- Fail, with the name of the key, if it has another type.
local function need(kind, key)
  local found = wrong_type(key, kind)
  if found then
    error({ err = 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind })
  end
end

-- The reason of a failure that `pcall` has caught: Redis's own errors are tables.
local function reason_of(failure)
  return type(failure) == 'table' and failure.err or tostring(failure)
end
