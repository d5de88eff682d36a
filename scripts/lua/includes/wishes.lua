-- Wishes to be told how a task ends, by who asked before there was a record of it.  They
-- have a key of their own, which expires: whoever may wait need not let records expire.
--
-- @include keys

-- The names of the reply streams, separated by spaces; false for nobody.  They are taken
-- out: from then on they stand in the record, or have been told.
local function wishes_for(id)
  local names = redis.pcall('GETDEL', key_of('wish', id))
  return type(names) == 'string' and names
end

-- Write into a record that is new who waits for its task already.
local function note_wishes(id)
  local names = wishes_for(id)
  if names then
    redis.call('HSET', key_of('task', id), 'waiters', names)
  end
end
