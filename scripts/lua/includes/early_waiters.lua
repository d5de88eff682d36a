-- Waiters for a task that has no record yet.  They have a key of their own, which expires: a
-- user who may wait for results need not have the right to let records expire.
--
-- @include keys

-- Remove and return the names of the reply streams, separated by spaces; false if there are
-- none.  The caller moves them into the record, or notifies them.
local function take_early_waiters(id)
  local names = redis.pcall('GETDEL', key_of('waiters', id))
  return type(names) == 'string' and names
end

-- Move the early waiters of a task into its new record.
local function note_early_waiters(id)
  local names = take_early_waiters(id)
  if names then
    redis.call('HSET', key_of('task', id), 'waiters', names)
  end
end
