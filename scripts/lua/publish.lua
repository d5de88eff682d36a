#!lua
-- Publish messages: all of them to all queues that they are routed to, or none.
--
-- KEYS  root of the namespace, such as {streamq}
-- ARGV  channel, number            the publisher channel, and the number of this call, which
--                                  grows from call to call; a call that is sent again with its
--                                  number, and the same first id, gets the same answer ('' ''
--                                  for no channel)
--       then for each message:
--       exchange, routing key      the exchange '' leads to the queue named by the key
--       id                         at most 200 bytes, no @ : { } and no control characters; or
--                                  '' for QUEUE-ENTRYID
--       window                     dedup window: milliseconds in which the same id is accepted
--                                  once; 'none' for a chosen id without a window; 0 for a
--                                  generated id, which is not looked up
--       keep                       1: write a record of the task; 0: do not
--       priority                   0–9, or ''
--       due                        when it is to run: '' now, +MS after so many milliseconds,
--                                  MS at a moment, in milliseconds since 1970
--       expires                    from when on it is not to start: '' never, +MS or MS
--       count, then as many header names and values; values are canonical text
--                                  (i:1  f:1.0  s:text  b:true  v:)
--       count, then as many names and values for the stream; the first name is `task`
--
-- A chosen id (one with a window, or 'none') is also accepted only once while its record says
-- that its task has not ended.  Later it begins a new generation of the record, and the message
-- carries its number.
--
-- Answers one text for each message: the queues it went to, joined by ':'.
-- Refuses, having written nothing, with (messages are counted from 0; words are
-- percent-escaped, and separated by one space)
--   UNROUTABLE message exchange key   no binding leads to a queue
--   NOEXCHANGE message exchange       no such exchange
--   QUEUEFULL message queue limit     the queue would hold more than its max_length
--   OUTOFIDS message queue            a stream of the queue has an entry with the last id
--   BADSETTINGS message queue         the settings of the queue are not valid JSON
--   STALE number newer                the channel has published another call under this number,
--                                     or a newer one
--   BADMESSAGE message reason         ARGV is not as described above
--   WRONGTYPE key …                   the key of a stream is not a stream
--
-- @include keys
-- @include route
-- @include publisher_calls
-- @include wire
-- @include destinations
-- @include generations
-- @include publish_message

local channel, number = ARGV[1], ARGV[2]

-- Answer the messages whose id was accepted before, or is twice in this call.  The record of a
-- message that was added by hand has no queue: then the answer is where this one would go.
local function answer_repeated(messages)
  local first = {}
  for _, message in ipairs(messages) do
    if message.chosen then
      if message.window > 0 then
        message.answer = redis.call('GET', key_of('dedup', message.id)) or nil
      end
      if not message.answer then
        local state, queues = generations().unended(message.id)
        message.in_use = state and true or nil
        message.answer = queues ~= '' and queues
      end
      message.same_as = first[message.id]
      first[message.id] = first[message.id] or message
    end
  end
end

if channel ~= '' then
  if not tonumber(number) then
    return refusal('BADMESSAGE', 0, 'bad-number')
  end
  local answers = answered_before(channel, number)
  if answers then
    return answers
  end
end

local messages, malformed = messages_from(3)
if malformed then
  return malformed
end
answer_repeated(messages)
local refused, writes, writer = assign_queues(messages)
if not refused and writes > 1 then
  refused = find_out_of_ids(messages)
elseif writer then -- it needs no check: its XADD is refused
  writer.sole = true
end
if refused then
  return refused
end

local answers = {}
for i, message in ipairs(messages) do
  if message.same_as then
    message.answer = message.same_as.answer
  elseif not message.answer and not publish_message(message) then
    return refusal('OUTOFIDS', i - 1, message.destination.answer)
  end
  answers[i] = message.answer
end

if channel ~= '' then
  remember_answers(channel, number, answers)
end
return answers
