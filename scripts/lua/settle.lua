#!lua flags=allow-oom
-- Settle messages whose tasks have ended, where nothing follows: the short form of follow.lua.
-- In the same call, acknowledge messages that are to be acknowledged before they run.
--
-- Such an early message leaves its queue here.  A mark in `started:CONSUMER` stands for it
-- until it is settled, so that it is reported as lost if its runner dies.
--
-- Where the key of a stream has another type, its messages are left and the others are
-- settled.  A consumer that was declared dead settles nothing.  A call that is repeated
-- because its answer was lost gets the same answer, and does what is left to do.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             who settles, and which of its settlements this is: a
--                                    number that grows, or a word for one that is the last
--       then for each stream that messages came from:
--       ack                          late: acknowledge it now; early: it was acknowledged
--                                    before its run; start: acknowledge it, it runs next
--       stream                       such as default, default:p9, default:returned
--       count, then for each message:
--       entry
--       for one to start, its mark   JSON of {stream, fields}, where fields are names and
--                                    values, the id among them; for others
--       name                         the id; from its second generation on ID::2
--       state                        SUCCESS, FAILURE …, or '' to leave the record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       count of names and values, then as many for the record
--
-- Answers a text with one character for each message: 1 (settled, or run it), 0 (the consumer
-- did not hold it any more) or - (cannot be settled or started now).  If there is a -, a space
-- and the first reason follow.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include finish
-- @include consumer_calls
-- @include wrong_type

local consumer, number = ARGV[1], ARGV[2]

local before, progress = answered(consumer, number)
if before then
  return before
end

local marks = key_of('started', consumer)
local answer, failure = {}, nil
local checked = {} -- streams whose keys have the right type

-- Why the messages of a stream cannot be acknowledged; nil if they can.
local function stream_error(stream)
  if checked[stream] then
    return nil
  end
  local fine, found = pcall(need, 'stream', key_of('queue', stream))
  checked[stream] = fine
  return not fine and reason_of(found) or nil
end

local at = 3
while at <= #ARGV do
  local ack, stream, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local key, done = key_of('queue', stream), {}
  at = at + 3
  local problem = ack ~= 'early' and stream_error(stream)
  failure = failure or problem
  for _ = 1, count do
    local entry = ARGV[at]
    local settled = progress ~= '' and string.sub(progress, #answer + 1, #answer + 1)
    if settled == '1' or settled == '0' then -- text: done by an earlier call
    elseif problem then
      settled = '-'
    elseif ack == 'early' then -- entries of different streams may have the same id
      settled = redis.call('HDEL', marks, stream .. ' ' .. entry)
    else
      settled = redis.call('XACK', key, 'workers', entry)
    end
    if ack == 'start' then
      if settled == 1 then
        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])
      elseif settled == 0 then -- ours if its mark is there: then an earlier call started it,
        -- whose answer is not kept any more
        settled = redis.call('HEXISTS', marks, stream .. ' ' .. entry)
      end
      at = at + 2
    else
      local state, expires = ARGV[at + 2], ARGV[at + 3]
      local last = at + 4 + 2 * tonumber(ARGV[at + 4])
      if settled == 1 then
        local id, generation = split_name(ARGV[at + 1])
        local fields = with_generation(generation)
        finish(id, fields, state, expires, 'worker', consumer, unpack(ARGV, at + 5, last))
      end
      at = last + 1
    end
    if settled == 1 and ack ~= 'early' then
      done[#done + 1] = entry
    end
    answer[#answer + 1] = settled
  end
  if done[1] then
    redis.call('XDEL', key, unpack(done))
  end
end

local text = remember(consumer, number, table.concat(answer))
return failure and text .. ' ' .. failure or text
