-- What is known of tasks: a hash for each.
--
-- @include keys

-- States that are written once and never overwritten.
local FINAL = { SUCCESS = true, FAILURE = true, REVOKED = true }

-- A field of a task's record: false if it has none, nil if the key holds no record at all
-- but something else.  Then nothing is known, and nothing can be written.
local function recorded(id, name)
  local value = redis.pcall('HGET', key_of('task', id), name)
  if type(value) ~= 'table' then
    return value
  end
end
