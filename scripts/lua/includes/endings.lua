-- How a task ends: its record is written once, and those who wait for it are told.
--
-- @include keys
-- @include clock
-- @include records
-- @include wishes

local now = clock()
local moment = string.format('%.0f', now) -- as text: Redis is slow to make one of a number

local REPLY_LIFE_MS = 600000 -- a process that reads its replies reads them within seconds
local REPLIES_KEPT = 10000
local LARGEST_NEWS = 4096 -- what is larger is fetched by those who want it

-- Tell the processes that wait.  Their names stand in the record, separated by spaces; what
-- they are told begins with the state, and is nothing where there is no record any more.
local function tell_waiters(waiters, id, ...)
  local news, size = { 'id', id, ... }, 0
  for _, text in ipairs(news) do
    size = size + #text
  end
  if size > LARGEST_NEWS then
    news = { unpack(news, 1, 4) }
  end
  for waiter in string.gmatch(waiters, '%S+') do
    local reply = key_of('reply', waiter)
    redis.pcall('XADD', reply, 'MAXLEN', '~', REPLIES_KEPT, '*', unpack(news))
    redis.call('PEXPIRE', reply, REPLY_LIFE_MS)
  end
end

-- The record of a message that went to several queues lives until its last copy has ended.
local function count_copy(id, expires)
  local base_id, queue = string.match(id, '^(.*)@(.*)$')
  local base, copies = key_of('task', base_id), recorded(base_id, 'copies')
  if not copies or not string.find(':' .. copies .. ':', ':' .. queue .. ':', 1, true) then
    return
  end
  local _, colons = string.gsub(copies, ':', ':')
  local ended = redis.pcall('HINCRBY', base, 'ended', 1)
  if type(ended) == 'table' then -- somebody else has written there: it counts anew
    redis.call('HSET', base, 'ended', 1)
  elseif ended > colons and tonumber(expires) > 0 then
    redis.call('PEXPIRE', base, expires)
  end
end

-- A task ends without a word: its record keeps its state, for a while, and says who ran it.
-- One that has ended before, as it was revoked, has been counted then.
local function leave(id, generation, expires, worker)
  local record, known = key_of('task', id), standing(id, generation)
  if known and not known.ended then
    redis.call('HSET', record, 'worker', worker, 'finished', moment)
    redis.call('PEXPIRE', record, expires)
    local waiters = redis.call('HGET', record, 'waiters')
    if waiters then
      redis.call('HDEL', record, 'waiters')
      tell_waiters(waiters, id, 'state', known.state, 'finished', moment)
    end
  elseif known == false or (known and known.state == 'REVOKED') then
    redis.call('ZREM', key_of('revoked'), name_of(id, generation))
  end
  local counts = known == nil or (known and not known.ended)
  if counts and string.find(id, '@', 1, true) then
    count_copy(id, expires)
  end
end

-- Write the end of a task: a final state and further fields, as names and values.
-- `expires` is the text of the milliseconds it is kept, '0' for ever.  False, and nothing
-- written, if the task has ended already, its id has been used again since, or something else
-- stands in its record's place.
-- A revocation that its message was still to meet has been met by whoever ends it.
local function finish(id, generation, state, expires, ...)
  local record = key_of('task', id)
  local before = redis.pcall('HMGET', record, 'state', 'waiters', 'retries', 'generation')
  if before.err then
    return false
  end
  local another = (before[4] or '1') ~= generation
  if FINAL[before[1]] or (another and before[1]) then
    if another or before[1] == 'REVOKED' then
      redis.call('ZREM', key_of('revoked'), name_of(id, generation))
    end
    return false
  end
  if another then -- there is no record any more
    redis.call('HSET', record, 'generation', generation)
  end
  if before[3] then -- why it was tried again is not how it ended
    redis.call('HDEL', record, 'error', 'error_type', 'error_args', 'traceback', 'eta')
  end
  redis.call('HSET', record, 'state', state, 'finished', moment, ...)
  if tonumber(expires) > 0 then
    redis.call('PEXPIRE', record, expires)
  else
    redis.call('PERSIST', record) -- what a wish to be told had left may expire
  end
  local waiters = before[2]
  if waiters then
    redis.call('HDEL', record, 'waiters')
  elseif not before[1] then -- nobody has written a record of it
    waiters = wishes_for(id)
  end
  if waiters then
    tell_waiters(waiters, id, 'state', state, ...)
  end
  if string.find(id, '@', 1, true) then
    count_copy(id, expires)
  end
  return true
end
