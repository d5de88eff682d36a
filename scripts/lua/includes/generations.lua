-- The beginning of a generation of a task id: the record of the one before is there, and its
-- revocation may be.
--
-- @include keys
-- @include names
-- @include final

-- What there is to do about generations, by name.  A script makes its functions anew at every
-- call: these are only made where an id is used that was chosen.
local function generations()
  local NUMBER_LIFE_MS = 2592000000 -- 30 days, as long as revocations usually last
  local MOST = 99999999999999 -- more than anybody counts; a field may say one digit more

  -- The last number of an id that keeps no record, where that is not the first.  It has a key of
  -- its own, which expires: who may send a message need not let records expire.
  local function number_of(id)
    local number = redis.pcall('GET', key_of('generation', id))
    return tonumber(generation_in(type(number) == 'string' and number))
  end

  local function note_number(id, number)
    redis.call('SET', key_of('generation', id), number, 'PX', NUMBER_LIFE_MS)
  end

  -- What a record says about a run that has ended.
  local ENDING = {
    'error', 'error_type', 'error_args', 'traceback', 'worker', 'started', 'finished', 'runtime',
    'result', 'content_type', 'compression', 'reason', 'meta', 'meta_content_type', 'retries',
    'revoked', 'eta', 'dead_lettered_to', 'copies', 'ended', 'queue',
  }

  -- A task that has not ended, as its record says: its state, and the queues that have it.  Nil
  -- where it has ended, or nobody knows it.  Fails where something else stands in its place.
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

  -- The generation that messages begin which are sent under these ids: the one behind that of
  -- their records.  Where there is none, the next that is not revoked.  A number that somebody
  -- else has written, and no message can say, counts for nothing.
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

  -- Take from a record what it says about the generation before, and write down the number.
  -- Where a task is to have no record, none is left: whoever waits finds out.
  local function begin_generation(id, generation, kept)
    local record = key_of('task', id)
    redis.call('HDEL', record, unpack(ENDING))
    if kept then
      redis.call('HSET', record, 'generation', generation)
    else
      redis.call('HDEL', record, 'state', 'generation', 'task', 'enqueued', 'history', 'waiters')
      note_number(id, generation)
    end
  end

  return {
    unended = unended,
    number_of = number_of,
    note_number = note_number,
    next = next_generation,
    begin = begin_generation,
  }
end
