#!lua
-- Put a dead letter into its queue again, with its id, as a new generation of its task.
--
-- The message carries its `history`: one JSON object a line for each death, the last 20.  The
-- task's record has the same, if there is one.
--
-- KEYS  root of the namespace
-- ARGV  queue, letter
--
-- Answers 1, or 2 if an expiry that had passed was dropped, or 0 if there is no such letter.
-- Refuses, having written nothing, with
--   NOQUEUE                           the queue is not declared
--   INUSE state                       its id is used again, by a task that has not ended
--   TOOLARGE fields                   more than a script can add to a stream
--   OUTOFIDS                          the stream has an entry with the last id
--
-- @include keys
-- @include streams
-- @include messages
-- @include requeue
-- @include emit
-- @include dead
-- @include generations

local DEATHS_KEPT = 20
local LONGEST_ERROR = 1000

-- Fields about earlier runs of a message: a new generation starts without them.
local RUN_FIELDS = {
  crashes = true, -- how many crashes it may have caused
  refusals = true, -- how often a worker did not have its task
  rejections = true, -- how often its task has rejected it
  retries = true, eta = true, stale = true,
  generation = true, -- of the one that has died
}
local queue, letter = ARGV[1], ARGV[2]

local fields = redis.call('HGETALL', letter_key(queue, letter))
if not fields[1] then
  drop_letter(queue, letter)
  return 0
end
if not queue_named(queue).declared then
  return redis.error_reply('NOQUEUE the queue is not declared')
elseif too_large(fields) then
  return redis.error_reply('TOOLARGE ' .. #fields / 2)
end
local id = field(fields, 'id')
local used = generations()
local in_use = used.unended(id)
if in_use then
  return redis.error_reply('INUSE ' .. in_use)
end

local message, death, expired = {}, {}, false
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if string.sub(name, 1, 5) == 'dead_' then
    death[name] = value
  elseif name == 'expires' and (tonumber(value) or math.huge) <= now then
    expired = true
  elseif not RUN_FIELDS[name] then
    message[#message + 1] = name
    message[#message + 1] = value
  end
end

-- A text as JSON; bytes that are not UTF-8 are left as they are.
local function quoted(text)
  return (string.gsub(cjson.encode(text or ''), '\\/', '/'))
end

-- The error of the letter, cut to LONGEST_ERROR bytes at the start of a character.
local function last_error()
  local text = death.dead_error or ''
  if #text > LONGEST_ERROR then
    text = string.gsub(string.sub(text, 1, LONGEST_ERROR), '[\192-\255]?[\128-\191]*$', '') .. '…'
  end
  return text
end

local function history_with(enqueued)
  local line = string.format(
    '{"at":%.0f,"reason":%s,"error":%s,"worker":%s,"enqueued":%s}',
    tonumber(death.dead_at) or now, quoted(death.dead_reason), quoted(last_error()),
    quoted(death.dead_worker), tonumber(enqueued) and enqueued or 'null'
  )
  local before = field(message, 'history')
  local lines = before and before .. '\n' .. line or line
  local _, ends = string.gsub(lines, '\n', '\n')
  for _ = DEATHS_KEPT, ends do
    lines = string.sub(lines, string.find(lines, '\n', 1, true) + 1)
  end
  return lines
end

-- A copy of a fanned out message that runs again has not ended: see count_copy.
local function uncount_copy()
  local base_id, copy = string.match(id, '^(.*)@(.*)$')
  local base, copies = key_of('task', base_id or ''), base_id and record_field(base_id, 'copies')
  if copies and string.find(':' .. copies .. ':', ':' .. copy .. ':', 1, true) then
    redis.pcall('HINCRBY', base, 'ended', -1) -- the field may hold any text
    redis.call('PERSIST', base)
  end
end

local record = key_of('task', id)
local known = status_of(id, generation_of(fields)) -- of the generation that has died
local before = redis.call('HMGET', record, 'state', 'enqueued')
local history = history_with(known and before[2] or death.dead_enqueued)
set_field(message, 'history', history)
local again = sent_again(message, used.next({ id }))
again.sole = true

local failed = make_group(key_of('queue', home_of(queue, message)))
if failed then
  return failed
elseif not emit(again, queue_named(queue), id, unpack(without(message, { id = true }))) then
  return redis.error_reply('OUTOFIDS the queue is out of ids')
end
if again.keep then
  redis.call('HSET', record, 'history', history)
  if FINAL[before[1]] then
    uncount_copy()
  end
end
drop_letter(queue, letter)
return expired and 2 or 1
