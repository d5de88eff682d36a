#!lua flags=allow-oom
-- Settle messages whose tasks have ended, with whatever follows: a message that is tried
-- again, one that goes to the dead letters, one that expired.
--
-- For each message all of it or nothing: acknowledging, deleting, the result and what follows
-- are one act.  What follows ignores limits, and becomes a dead letter if it leads nowhere.
-- It is written before its message is acknowledged: where a key that it needs holds something
-- else, the message stays with its consumer; the others of the call are settled.  Sent again,
-- it does what is left to do.
--
-- A consumer that was declared dead settles nothing.  A call that is repeated after its
-- answer was lost gets the answer that it got.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             who settles, and which of its settlements this is: a
--                                    number that grows, or a word for one that is the last
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then for each message:
--       ack                          late: to be acknowledged now; early: it was before
--       stream                       such as default, default:p9, default:returned
--       entry
--       name                         the id; from its second generation on ID::2
--       state                        SUCCESS, FAILURE, REVOKED, RETRY …, or '' to leave the
--                                    record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       count of names and values, then as many for the record
--       count of words, then what follows, if anything:
--         bury REASON ERROR          to the dead-letter exchange, else to the dead letters
--         expire REASON ERROR        to the dead-letter exchange, if there is one
--         later DUE QUEUE NAME VALUE …   again, at this moment (+MS from now, or MS since
--                                    1970), in this queue ('' for its own, :NAME for one that
--                                    is declared if there is none), with these fields
--         offer DUE NUMBER REASON ERROR   again at this moment, with NUMBER as its refusals, if
--                                    another worker that reads its queue knows its task; else
--                                    as bury
--         revoked                    the revocation has been met, and is forgotten
--
-- Answers a text of 1 (settled), 0 (was not yours any more) and - (cannot be settled now), one
-- for each message; where one cannot, a space and the first reason follow.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include numbered
-- @include foreign
-- @include streams
-- @include messages
-- @include dead
-- @include dead_letter
-- @include later

local consumer, number = ARGV[1], ARGV[2]
local limits = { most = tonumber(ARGV[3]), life_ms = tonumber(ARGV[4]) }

local before, progress = answered(consumer, number)
if before then
  return before
end

local marks = key_of('started', consumer)

-- Whether a message is still to be settled, and its fields while they can be read.
local function held(message)
  if message.early then
    local mark = redis.call('HGET', marks, message.place)
    return mark, mark and cjson.decode(mark).fields
  end
  local key, entry = key_of('queue', message.stream), message.entry
  return redis.call('XPENDING', key, 'workers', entry, entry, 1)[1], fields_of(message.stream, entry)
end

-- Take a message out of the hands of its consumer; false if it was not there any more.
local function done(message)
  if message.early then
    return redis.call('HDEL', marks, message.place) == 1
  end
  return take(message.stream, message.entry)
end

-- Whether a task that is to run again was revoked meanwhile: while its record said so that it
-- ran, or while it seemed to wait.  That it has ended says nothing: somebody may have added a
-- second message of its id by hand.
local function is_over(id, generation)
  local known = standing(id, generation)
  if known and known.state == 'REVOKED' then
    return redis.call('ZSCORE', key_of('revoked'), name_of(id, generation)) -- nobody has met it
  end
  return known and known.revoked
end

-- A task that is to run again says why; it has not ended, so nobody is told.
local function postpone(id, generation, state, ...)
  local record, known = key_of('task', id), standing(id, generation)
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

-- A queue by its name; one that stands behind a colon is made, if there is none.
local function wanted_queue(text)
  local name = string.match(text, '^:(.*)')
  if name and redis.call('HSETNX', key_of('queues'), name, '{}') == 1 then
    for _, stream in ipairs({ name, name .. ':returned' }) do
      make_group(key_of('queue', stream))
    end
  end
  return name or text
end

-- At once in its own queue; else promote.lua moves it, and buries it if the queue is gone.
local function again(stream, id, generation, fields, words)
  local due, elsewhere = moment_of(words[2]), wanted_queue(words[3])
  local queue = elsewhere ~= '' and elsewhere or queue_of(stream)
  -- it has not waited in vain: it was run, and not rejected
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
  local at_once = due <= now and elsewhere == '' and declared
  if at_once and not foreign(key_of('queue', home), 'stream') then
    put(home, fields)
    return
  end
  local eta = string.format('%.0f', due)
  set_field(fields, 'eta', eta)
  need('zset', key_of('scheduled'))
  need('hash', later_key(name_of(id, generation)))
  keep_for_later(home, id, generation, fields, eta)
  local known = standing(id, generation)
  if known and not known.ended then
    redis.call('HSET', key_of('task', id), 'eta', eta, 'queue', queue)
  end
end

local function run_again(message, fields)
  local id, stream, record = message.id, message.stream, message.record
  local generation = message.generation
  if is_over(id, generation) then
    finish(id, generation, 'REVOKED', message.expires, 'worker', consumer, 'reason', 'revoked')
  elseif fields and too_large(fields) then
    local why = 'too many fields'
    dead_letter(queue_of(stream), id, fields, why, consumer, why, limits, true)
    if standing(id, generation) then
      finish(id, generation, 'FAILURE', message.expires, 'worker', consumer, unpack(record))
    end
  else
    if fields then
      again(stream, id, generation, fields, message.words)
    end
    postpone(id, generation, message.state, unpack(record))
  end
end

-- Whether a living worker reads this queue and has this task.
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

-- What follows a message whose task its consumer does not have.
local function decide(message, fields)
  local _, due, number, reason, why = unpack(message.words)
  if fields and is_known(queue_of(message.stream), field(fields, 'task') or '') then
    message.words, message.state, message.record = { 'later', due, '', 'refusals', number }, '', {}
  else
    message.words = { 'bury', reason, why }
  end
end

local function follow(message, fields)
  if message.words[1] == 'offer' then
    decide(message, fields)
  end
  local id, words, expires = message.id, message.words, message.expires
  local verb, generation = words[1], message.generation
  if verb == 'later' then
    return run_again(message, fields)
  end
  if fields and (verb == 'bury' or verb == 'expire') then
    local kept = verb == 'bury'
    dead_letter(queue_of(message.stream), id, fields, words[2], consumer, words[3], limits, kept)
  end
  if message.state ~= '' then
    finish(id, generation, message.state, expires, 'worker', consumer, unpack(message.record))
  elseif tonumber(expires) > 0 then
    leave(id, generation, expires, consumer)
  end
  if verb == 'revoked' then
    redis.call('ZREM', key_of('revoked'), name_of(id, generation))
  end
end

-- What follows is written first: whatever fails then leaves the message where it is.
local function settle(message)
  if not message.words[1] then
    local mine = done(message)
    if mine then
      follow(message)
    end
    return mine
  end
  if not message.early then
    need('stream', key_of('queue', message.stream))
  end
  local mine, fields = held(message)
  if mine then
    follow(message, fields)
    done(message)
  end
  return mine
end

-- So many values of ARGV, from a position on that holds their count; and the next position.
local function taken(at, each)
  local last = at + each * tonumber(ARGV[at])
  return { unpack(ARGV, at + 1, last) }, last + 1
end

-- The message that begins at a position of ARGV, and the next position.
local function message_at(at)
  local record, words
  local id, generation = parted(ARGV[at + 3])
  local after = at + 6
  record, after = taken(after, 2)
  words, after = taken(after, 1)
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
  local letter = string.sub(progress, #answer + 1, #answer + 1)
  if letter ~= '1' and letter ~= '0' then
    local fine, found = pcall(settle, message)
    letter = not fine and '-' or found and '1' or '0'
    failure = failure or not fine and found
  end
  answer[#answer + 1] = letter
end

local text = remember(consumer, number, table.concat(answer))
return failure and text .. ' ' .. reason_of(failure) or text
