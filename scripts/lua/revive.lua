#!lua
-- Put a dead letter into its queue again, with its id, as a new generation of its task.
--
-- KEYS  root of the namespace
-- ARGV  queue, letter
--
-- Answers 1, or 0 if there is no such letter.
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages
-- @include dead

local queue, letter = ARGV[1], ARGV[2]

local message, kept = {}, {}
local fields = redis.call('HGETALL', letter_key(queue, letter))
if not fields[1] then
  redis.call('ZREM', key_of('dead', queue), letter)
  return 0
end
for i = 1, #fields, 2 do
  local name = fields[i]
  if string.sub(name, 1, 5) == 'dead_' then
    kept[name] = fields[i + 1]
  elseif name ~= 'crashes' then
    message[#message + 1] = name
    message[#message + 1] = fields[i + 1]
  end
end

local made = redis.pcall('XGROUP', 'CREATE', key_of('queue', queue), 'workers', '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
  return made
end
redis.call('XADD', key_of('queue', queue), '*', unpack(message))
if field(message, 'ignore_result') ~= '1' then
  local record = key_of('task', field(message, 'id'))
  local history = redis.call('HGET', record, 'history')
  local chapter = kept.dead_reason .. ': ' .. (kept.dead_error or '')
  redis.call(
    'HSET', record, 'state', 'QUEUED', 'task', field(message, 'task') or '', 'queue', queue,
    'enqueued', now, 'history', history and history .. '\n' .. chapter or chapter
  )
  redis.call(
    'HDEL', record, 'error', 'error_type', 'error_args', 'traceback', 'worker', 'finished',
    'started', 'runtime', 'result', 'reason'
  )
  redis.call('HINCRBY', record, 'generation', 1)
  redis.call('PERSIST', record)
end
drop_letter(queue, letter)
return 1
