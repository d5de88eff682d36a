-- The start of a generation of a task id, where the record of the one before, or its revocation,
-- may still exist.
--
-- @include keys
-- @include names
-- @include states

local made

-- The functions about generations, by name.  A script creates its functions anew at every call:
-- these are only created where a message has a chosen id.
local function generations()
  if made then
    return made
  end
  local NUMBER_LIFE_MS = 2592000000 -- 30 days, as long as revocations usually last
  local MOST = 99999999999999 -- a field may have one digit more

  -- The last number of an id without a record; 1 if none is stored.  It has a key of its own,
  -- which expires: a user who may publish need not have the right to let records expire.
  local function number_of(id)
    local number = redis.pcall('GET', key_of('generation', id))
    return tonumber(generation_in(type(number) == 'string' and number))
  end

  local function note_number(id, number)
    redis.call('SET', key_of('generation', id), number, 'PX', NUMBER_LIFE_MS)
  end

  -- The fields of a record about a run that has ended.
  local END_FIELDS = {
    'error', 'error_type', 'error_args', 'traceback', 'worker', 'started', 'finished', 'runtime',
    'result', 'content_type', 'compression', 'reason', 'meta', 'meta_content_type', 'retries',
    'revoked', 'eta', 'dead_lettered_to', 'copies', 'ended', 'queue',
  }

  -- The state of a task that has not ended, and the queues that have it, by its record.  Nil if
  -- it has ended or has no record.  Fails if the key of the record has another type.
  local function unended(id)
    local record = key_of('task', id)
    local found = redis.pcall('HMGET', record, 'state', 'finished', 'copies', 'ended', 'queue')
    if found.err then
      error({ err = 'WRONGTYPE ' .. record .. ' is a key of another type than a hash' })
    end
    local state, finished, copies = found[1], found[2], found[3]
    local _, colons = string.gsub(copies or '', ':', ':')
    local all = copies and (tonumber(found[4]) or 0) > colons
    if state and not (FINAL[state] or finished or all) then
      return state, copies or found[5] or ''
    end
  end

  -- The generation of new messages with these ids: the one after that of their records.  Without
  -- records, the next one that is not revoked.  A stored number that no message can carry is
  -- ignored.
  local function next_generation(ids)
    local generation = 1
    for _, id in ipairs(ids) do
      local found = redis.pcall('HMGET', key_of('task', id), 'state', 'generation')
      local own = (found[1] or found[2]) and tonumber(generation_in(found[2])) + 1
      generation = math.max(generation, own or number_of(id))
    end
    generation = generation > MOST and 2 or generation
    local at = 1
    while ids[at] do
      local name = name_of(ids[at], string.format('%.0f', generation))
      if type(redis.pcall('ZSCORE', key_of('revoked'), name)) == 'string' then
        generation, at = generation + 1, 0
      end
      at = at + 1
    end
    return generation
  end

  -- Delete from a record the fields about the generation before, and write the new number.
  -- If the task keeps no record, nothing is left: waiters notice that it is gone.
  local function begin_generation(id, generation, kept)
    local record = key_of('task', id)
    redis.call('HDEL', record, unpack(END_FIELDS))
    if kept then
      redis.call('HSET', record, 'generation', generation)
    else
      redis.call('HDEL', record, 'state', 'generation', 'task', 'enqueued', 'history', 'waiters')
      note_number(id, generation)
    end
  end

  made = {
    unended = unended,
    number_of = number_of,
    note_number = note_number,
    next = next_generation,
    begin = begin_generation,
  }
  return made
end
