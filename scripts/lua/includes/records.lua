-- What is known of tasks: a hash for each id, about the last generation of it.
--
-- An id that is accepted again, or whose dead letter is put back, begins a new generation of
-- its record.  A message carries its number from the second one on.  What one does to the
-- record and asks of it is about its own generation: to an older one it says nothing.
--
-- @include keys
-- @include names
-- @include final

-- A field of a task's record: false if it has none, nil if the key holds no record at all
-- but something else.  Then nothing is known, and nothing can be written.
local function recorded(id, name)
  local value = redis.pcall('HGET', key_of('task', id), name)
  if type(value) ~= 'table' then
    return value
  end
end

-- What the record says to a message of this generation: its state, whether the task has ended,
-- and whether it was revoked while it ran.  Nil if there is none; false if it is about another
-- generation, or the key holds something else.
local function standing(id, generation)
  local found = redis.pcall('HMGET', key_of('task', id), 'state', 'generation', 'finished', 'revoked')
  if not found.err and not found[1] then
    return nil
  elseif found.err or (found[2] or '1') ~= generation then
    return false
  end
  local ended = FINAL[found[1]] or found[3] ~= false
  return { state = found[1], ended = ended, revoked = found[4] and not ended }
end
