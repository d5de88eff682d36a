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
-- @include finish
-- @include consumer_calls
-- @include wrong_type
-- @include messages
-- @include dead_letter
-- @include run_again

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
  local id, words = message.id, message.words
  local verb, generation = words[1], message.generation
  if verb == 'later' then
    return run_again(message, fields, consumer, limits)
  end
  if fields and (verb == 'dead_letter' or verb == 'expire') then
    local kept = verb == 'dead_letter'
    dead_letter(queue_of(message.stream), id, fields, words[2], consumer, words[3], limits, kept)
  end
  local ended = with_generation(generation) -- the runner has decided what is recorded
  finish(id, ended, message.state, message.expires, 'worker', consumer, unpack(message.record))
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
