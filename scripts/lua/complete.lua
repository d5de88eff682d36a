#!lua flags=allow-oom
-- Settle messages whose tasks have ended and leave nothing to follow: the short way of
-- `settle`.  In the same call, acknowledge messages that are to be acknowledged before they
-- run.
--
-- Such an early message leaves its queue here; a mark keeps it in sight until it is
-- settled, so that the death of its runner is reported.
--
-- Where something else stands in the place of a stream, its messages are left and the others
-- are settled.  A consumer that was declared dead settles nothing.  A call that is repeated
-- after its answer was lost gets the answer that it got, and does what is left to do.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             who settles, and which of its settlements this is: a
--                                    number that grows, or a word for one that is the last
--       then for each stream that messages came from:
--       ack                          late: to be acknowledged now; early: it was before its
--                                    run; start: it is to run next
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
-- Answers a text of 1 (settled, or run it), 0 (was not yours any more) and - (cannot be
-- settled or started now), one for each message; where one cannot, a space and the first
-- reason follow.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include numbered
-- @include foreign

local consumer, number = ARGV[1], ARGV[2]

local before, progress = answered(consumer, number)
if before then
  return before
end

local marks = key_of('started', consumer)
local answer, failure = {}, nil
local looked = {} -- streams that are there

-- Why no message of this stream can be acknowledged, if that is so.
local function trouble_with(stream)
  if looked[stream] then
    return nil
  end
  local fine, found = pcall(need, 'stream', key_of('queue', stream))
  looked[stream] = fine
  return not fine and reason_of(found) or nil
end

local at = 3
while at <= #ARGV do
  local ack, stream, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local key, done = key_of('queue', stream), {}
  at = at + 3
  local trouble = ack ~= 'early' and trouble_with(stream)
  failure = failure or trouble
  for _ = 1, count do
    local entry = ARGV[at]
    local mine = progress ~= '' and string.sub(progress, #answer + 1, #answer + 1)
    if mine == '1' or mine == '0' then -- as text: that much was done before
    elseif trouble then
      mine = '-'
    elseif ack == 'early' then -- entries of different streams may have the same id
      mine = redis.call('HDEL', marks, stream .. ' ' .. entry)
    else
      mine = redis.call('XACK', key, 'workers', entry)
    end
    if ack == 'start' then
      if mine == 1 then
        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])
      elseif mine == 0 then -- ours, if its mark is: then we started it, in a call that is
        -- not remembered any more
        mine = redis.call('HEXISTS', marks, stream .. ' ' .. entry)
      end
      at = at + 2
    else
      local state, expires = ARGV[at + 2], ARGV[at + 3]
      local last = at + 4 + 2 * tonumber(ARGV[at + 4])
      if mine == 1 then
        local id, generation = parted(ARGV[at + 1])
        if state ~= '' then
          finish(id, generation, state, expires, 'worker', consumer, unpack(ARGV, at + 5, last))
        elseif tonumber(expires) > 0 then
          leave(id, generation, expires, consumer)
        end
      end
      at = last + 1
    end
    if mine == 1 and ack ~= 'early' then
      done[#done + 1] = entry
    end
    answer[#answer + 1] = mine
  end
  if done[1] then
    redis.call('XDEL', key, unpack(done))
  end
end

local text = remember(consumer, number, table.concat(answer))
return failure and text .. ' ' .. failure or text
