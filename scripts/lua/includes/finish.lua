-- Finish: the only place where the end of a task is written, once, and its waiters are notified.
--
-- @include keys
-- @include now
-- @include fields
-- @include records
-- @include early_waiters

local REPLY_LIFE_MS = 600000 -- a process that reads its replies reads them within seconds
local REPLIES_KEPT = 10000
local LARGEST_ENTRY = 4096 -- bytes; of a larger record waiters get the state, and fetch the rest

-- Add an entry to the reply stream of each waiter.  `waiters` are names, separated by spaces;
-- the fields begin with the state, and are none where the record was deleted.
local function notify_waiters(waiters, id, ...)
  local entry, size = { 'id', id, ... }, 0
  for _, text in ipairs(entry) do
    size = size + #text
  end
  if size > LARGEST_ENTRY then
    entry = { unpack(entry, 1, 4) }
  end
  for waiter in string.gmatch(waiters, '%S+') do
    local reply = key_of('reply', waiter)
    redis.pcall('XADD', reply, 'MAXLEN', '~', REPLIES_KEPT, '*', unpack(entry))
    redis.call('PEXPIRE', reply, REPLY_LIFE_MS)
  end
end

-- The record of a message that went to several queues lives until its last copy has ended.
local function count_copy(id, expires)
  local base_id, queue = string.match(id, '^(.*)@(.*)$')
  local base, copies = key_of('task', base_id), record_field(base_id, 'copies')
  if not copies or not string.find(':' .. copies .. ':', ':' .. queue .. ':', 1, true) then
    return
  end
  local _, colons = string.gsub(copies, ':', ':')
  local ended = redis.pcall('HINCRBY', base, 'ended', 1)
  if type(ended) == 'table' then -- the field holds another text: the count starts anew
    redis.call('HSET', base, 'ended', 1)
  elseif ended > colons and tonumber(expires) > 0 then
    redis.call('PEXPIRE', base, expires)
  end
end

-- End a task without a new state (Ignore): its record keeps its state, expires, and names the
-- worker.  A task that has ended before, as it was revoked, was counted then.
local function keep_state(id, generation, expires, worker)
  local record, known = key_of('task', id), status_of(id, generation)
  if known and not known.ended then
    redis.call('HSET', record, 'worker', worker, 'finished', moment)
    redis.call('PEXPIRE', record, expires)
    local waiters = redis.call('HGET', record, 'waiters')
    if waiters then
      redis.call('HDEL', record, 'waiters')
      notify_waiters(waiters, id, 'state', known.state, 'finished', moment)
    end
  elseif known == false or (known and known.state == 'REVOKED') then
    redis.pcall('ZREM', key_of('revoked'), name_of(id, generation))
  end
  local counts = known == nil or (known and not known.ended)
  if counts and string.find(id, '@', 1, true) then
    count_copy(id, expires)
  end
end

-- Write a final state into the record of a task.  False, and nothing is written, if the task has
-- ended already, its id has been used again since, or the key of its record has another type.
-- If the task was revoked, its entry in `revoked` is removed: the message has been found.
local function write_end(id, generation, state, expires, ...)
  local record = key_of('task', id)
  local before = redis.pcall('HMGET', record, 'state', 'waiters', 'retries', 'generation')
  if before.err then
    return false
  end
  local another = (before[4] or '1') ~= generation
  if FINAL[before[1]] or (another and before[1]) then
    if another or before[1] == 'REVOKED' then
      redis.pcall('ZREM', key_of('revoked'), name_of(id, generation))
    end
    return false
  end
  if another then -- there is no record any more
    redis.call('HSET', record, 'generation', generation)
  end
  if before[3] then -- the reason of a retry is not the end of the task
    redis.call('HDEL', record, 'error', 'error_type', 'error_args', 'traceback', 'eta')
  end
  redis.call('HSET', record, 'state', state, 'finished', moment, ...)
  if tonumber(expires) > 0 then
    redis.call('PEXPIRE', record, expires)
  else
    redis.call('PERSIST', record) -- a record that a waiter has written may expire
  end
  local waiters = before[2]
  if waiters then
    redis.call('HDEL', record, 'waiters')
  elseif not before[1] then -- there was no record
    waiters = take_early_waiters(id)
  end
  if waiters then
    notify_waiters(waiters, id, 'state', state, ...)
  end
  if string.find(id, '@', 1, true) then
    count_copy(id, expires)
  end
  return true
end

-- End a task.
--
-- `fields` are those of its message, as far as they are known: its generation at least, unless it
-- is the first.  `state` is '' where a runner writes none: for Ignore, or, with `expires` '0', for
-- a task that keeps no result.  `expires` is the milliseconds that its record is kept, as text;
-- with a state '0' is for ever.  Then follow names and values for the record, the first of which
-- is `worker`, if one ends it.
-- Nothing is written for a message with `ignore_result`: a record of its id belongs to another one.
--
-- Returns whether the end was written.
local function finish(id, fields, state, expires, ...)
  if state ~= '' and field(fields, 'ignore_result') ~= '1' then
    return write_end(id, generation_of(fields), state, expires, ...)
  elseif state == '' and expires ~= '0' then
    local _, worker = ...
    keep_state(id, generation_of(fields), expires, worker)
  end
  return false
end
