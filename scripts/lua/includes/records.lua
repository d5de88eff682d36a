-- The records of tasks: a hash for each id, about its last generation.
--
-- An id that is accepted again, or whose dead letter is put back, begins a new generation of
-- its record.  From the second one on the message carries the number.  A message writes into
-- the record, and reads it, only if the record is about its own generation.
--
-- @include keys
-- @include names
-- @include states

-- A field of a task's record: false if it has none, nil if the key has another type.  Then
-- nothing is known, and nothing can be written.
local function record_field(id, name)
  local value = redis.pcall('HGET', key_of('task', id), name)
  if type(value) ~= 'table' then
    return value
  end
end

-- The status of a task for a message of this generation: its state, whether it has ended, and
-- whether it was revoked while it ran.  Nil if there is no record; false if the record is about
-- another generation, or its key has another type.
local function status_of(id, generation)
  local found = redis.pcall('HMGET', key_of('task', id), 'state', 'generation', 'finished', 'revoked')
  if not found.err and not found[1] then
    return nil
  elseif found.err or (found[2] or '1') ~= generation then
    return false
  end
  local ended = FINAL[found[1]] or found[3] ~= false
  return { state = found[1], ended = ended, revoked = found[4] and not ended }
end
