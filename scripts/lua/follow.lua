#!lua flags=allow-oom
-- Settle messages whose tasks have ended, with their follow-ups: a message is tried again,
-- becomes a dead letter, expires, or is offered to another worker.
--
-- Each message is settled as a whole or not at all: acknowledging, deleting, the record and
-- the follow-up are one step.  A follow-up ignores the limits of queues, and becomes a dead
-- letter if its queue is gone.  It is written before its message is acknowledged: where a key
-- that it needs has another type, the message stays with its consumer, and the other messages
-- of the call are settled.  Sent again, the call does what is left to do.
--
-- A consumer that was declared dead settles nothing.  A call that is repeated because its
-- answer was lost gets the same answer.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             who settles, and which of its settlements this is: a
--                                    number that grows, or a word for one that is the last
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then for each message:
--       ack                          late: acknowledge it now; early: it was acknowledged
--                                    before its run
--       stream                       such as default, default:p9, default:returned
--       entry
--       name                         the id; from its second generation on ID::2
--       state                        SUCCESS, FAILURE, REVOKED, RETRY …, or '' to leave the
--                                    record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       count of names and values, then as many for the record
--       count of words, then the follow-up, if there is one:
--         dead_letter REASON ERROR   to the dead-letter exchange, else to the dead letters
--         expire REASON ERROR        to the dead-letter exchange, if there is one
--         later DUE QUEUE NAME VALUE …   run it again at this moment (+MS from now, or MS since
--                                    1970), in this queue ('' for its own, :NAME for one that
--                                    is declared if it is not), with these fields
--         offer DUE NUMBER REASON ERROR   run it again at this moment, with NUMBER as its
--                                    refusals, if another worker that reads its queue has its
--                                    task; else as dead_letter
--         revoked                    remove the revocation: its message has been found
--
-- Answers a text with one character for each message: 1 (settled), 0 (the consumer did not
-- hold it any more) or - (cannot be settled now).  If there is a -, a space and the first
-- reason follow.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include finish
-- @include replay
-- @include wrong_type
-- @include streams
-- @include messages
-- @include dead
-- @include dead_letter
-- @include scheduled

local consumer, number = ARGV[1], ARGV[2]
local limits = { most = tonumber(ARGV[3]), life_ms = tonumber(ARGV[4]) }

local before, progress = answered(consumer, number)
if before then
  return before
end

local marks = key_of('started', consumer)

-- Whether a message is still to be settled; and its fields, if they can be read.
local function held(message)
  if message.early then
    local mark = redis.call('HGET', marks, message.place)
    return mark, mark and cjson.decode(mark).fields
  end
  local key, entry = key_of('queue', message.stream), message.entry
  return redis.call('XPENDING', key, 'workers', entry, entry, 1)[1], fields_of(message.stream, entry)
end

-- Remove a message from its consumer; false if the consumer did not hold it any more.
local function remove_from_consumer(message)
  if message.early then
    return redis.call('HDEL', marks, message.place) == 1
  end
  return ack_and_delete(message.stream, message.entry)
end

-- Whether a task that is to run again was revoked meanwhile: while its record said that it ran,
-- or that it waited.  A task that has ended was not revoked by that alone: somebody may have
-- added a second message of its id by hand.
local function revoked_meanwhile(id, generation)
  local known = status_of(id, generation)
  if known and known.state == 'REVOKED' then
    return redis.call('ZSCORE', key_of('revoked'), name_of(id, generation)) -- not removed yet
  end
  return known and known.revoked
end

-- Write into the record why a task is to run again.  It has not ended: no waiter is notified.
local function postpone(id, generation, state, ...)
  local record, known = key_of('task', id), status_of(id, generation)
  if state ~= '' and known and not known.ended then
    redis.call('HSET', record, 'state', state, 'worker', consumer, ...)
    redis.call('HDEL', record, 'started', 'meta', 'meta_content_type')
    redis.call('PERSIST', record)
  elseif known then
    show_waiting(id, generation)
  end
end

-- A moment: +MS from now, or MS since 1970.
local function moment_of(text)
  return string.sub(text, 1, 1) == '+' and now + tonumber(string.sub(text, 2)) or tonumber(text)
end

-- The name of a queue; one that is written with a colon is declared if it is not.
local function wanted_queue(text)
  local name = string.match(text, '^:(.*)')
  if name and redis.call('HSETNX', key_of('queues'), name, '{}') == 1 then
    for _, stream in ipairs({ name, name .. ':returned' }) do
      make_group(key_of('queue', stream))
    end
  end
  return name or text
end

-- Put a message into its own queue if it is due; else schedule it.  Then promote.lua moves it,
-- or makes it a dead letter if the queue is gone.
local function republish(stream, id, generation, fields, words)
  local due, named_queue = moment_of(words[2]), wanted_queue(words[3])
  local queue = named_queue ~= '' and named_queue or queue_of(stream)
  -- the task was run and not rejected: its time to live and its rejections start anew
  fields = without(fields, { stale = true, rejections = true })
  set_field(fields, 'id', id)
  for i = 4, #words, 2 do
    local value = words[i + 1]
    if words[i] == 'expires' then
      value = string.format('%.0f', moment_of(value))
    end
    set_field(fields, words[i], value)
  end
  local home = home_of(queue, fields)
  local declared = redis.call('HEXISTS', key_of('queues'), queue) == 1
  local at_once = due <= now and named_queue == '' and declared
  if at_once and not wrong_type(key_of('queue', home), 'stream') then
    add_message(home, fields)
    return
  end
  local eta = string.format('%.0f', due)
  set_field(fields, 'eta', eta)
  need('zset', key_of('scheduled'))
  need('hash', scheduled_key(name_of(id, generation)))
  schedule(home, id, generation, fields, eta)
  local known = status_of(id, generation)
  if known and not known.ended then
    redis.call('HSET', key_of('task', id), 'eta', eta, 'queue', queue)
  end
end

local function run_again(message, fields)
  local id, stream, record = message.id, message.stream, message.record
  local generation = message.generation
  if revoked_meanwhile(id, generation) then
    finish(id, generation, 'REVOKED', message.expires, 'worker', consumer, 'reason', 'revoked')
  elseif fields and too_large(fields) then
    local why = 'too many fields'
    dead_letter(queue_of(stream), id, fields, why, consumer, why, limits, true)
    if status_of(id, generation) then
      finish(id, generation, 'FAILURE', message.expires, 'worker', consumer, unpack(record))
    end
  else
    if fields then
      republish(stream, id, generation, fields, message.words)
    end
    postpone(id, generation, message.state, unpack(record))
  end
end

-- Whether a worker that is up reads this queue and has this task.
local function is_known(queue, task)
  local nodes = redis.pcall('ZRANGE', key_of('workers'), now, '+inf', 'BYSCORE')
  for _, node in ipairs(nodes.err and {} or nodes) do
    local about = redis.pcall('HMGET', key_of('worker', node), 'queues', 'task:' .. task)
    if about[2] and string.find(' ' .. about[1] .. ' ', ' ' .. queue .. ' ', 1, true) then
      return true
    end
  end
  return false
end

-- Decide about a message whose task its consumer does not have: run it again, or dead-letter it.
local function offer_or_dead_letter(message, fields)
  local _, due, number, reason, why = unpack(message.words)
  if fields and is_known(queue_of(message.stream), field(fields, 'task') or '') then
    message.words, message.state, message.record = { 'later', due, '', 'refusals', number }, '', {}
  else
    message.words = { 'dead_letter', reason, why }
  end
end

local function follow(message, fields)
  if message.words[1] == 'offer' then
    offer_or_dead_letter(message, fields)
  end
  local id, words, expires = message.id, message.words, message.expires
  local verb, generation = words[1], message.generation
  if verb == 'later' then
    return run_again(message, fields)
  end
  if fields and (verb == 'dead_letter' or verb == 'expire') then
    local kept = verb == 'dead_letter'
    dead_letter(queue_of(message.stream), id, fields, words[2], consumer, words[3], limits, kept)
  end
  if message.state ~= '' then
    finish(id, generation, message.state, expires, 'worker', consumer, unpack(message.record))
  elseif tonumber(expires) > 0 then
    finish_silently(id, generation, expires, consumer)
  end
  if verb == 'revoked' then
    redis.call('ZREM', key_of('revoked'), name_of(id, generation))
  end
end

-- Settle one message.  The follow-up is written first: a failure leaves the message unsettled.
local function settle(message)
  if not message.words[1] then
    local held_here = remove_from_consumer(message)
    if held_here then
      follow(message)
    end
    return held_here
  end
  if not message.early then
    need('stream', key_of('queue', message.stream))
  end
  local held_here, fields = held(message)
  if held_here then
    follow(message, fields)
    remove_from_consumer(message)
  end
  return held_here
end

-- The values of ARGV behind a position that holds their count; and the next position.
local function list_at(at, each)
  local last = at + each * tonumber(ARGV[at])
  return { unpack(ARGV, at + 1, last) }, last + 1
end

-- The message that begins at a position of ARGV, and the next position.
local function message_at(at)
  local record, words
  local id, generation = split_name(ARGV[at + 3])
  local after = at + 6
  record, after = list_at(after, 2)
  words, after = list_at(after, 1)
  return {
    early = ARGV[at] == 'early',
    stream = ARGV[at + 1],
    entry = ARGV[at + 2],
    place = ARGV[at + 1] .. ' ' .. ARGV[at + 2],
    id = id,
    generation = generation,
    state = ARGV[at + 4],
    expires = ARGV[at + 5],
    record = record,
    words = words,
  },
    after
end

local answer, failure, at = {}, false, 5
while at <= #ARGV do
  local message
  message, at = message_at(at)
  local digit = string.sub(progress, #answer + 1, #answer + 1)
  if digit ~= '1' and digit ~= '0' then
    local fine, found = pcall(settle, message)
    digit = not fine and '-' or found and '1' or '0'
    failure = failure or not fine and found
  end
  answer[#answer + 1] = digit
end

local text = remember(consumer, number, table.concat(answer))
return failure and text .. ' ' .. reason_of(failure) or text
