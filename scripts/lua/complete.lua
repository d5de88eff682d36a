#!lua flags=allow-oom
-- Settle messages whose tasks have ended and leave nothing to follow: the short way of
-- `settle`.  In the same call, acknowledge messages that are to be acknowledged before they
-- run.
--
-- Such an early message leaves its queue here; a mark keeps it in sight until it is
-- settled, so that the death of its runner is reported.
--
-- A consumer that was declared dead settles nothing.  A call that is repeated after its
-- answer was lost gets the answer that it got.
--
-- KEYS  root of the namespace
-- ARGV  consumer, number             whose how-manieth settlement this is
--       then for each stream that messages came from:
--       ack                          late: to be acknowledged now; early: it was before its
--                                    run; start: it is to run next
--       stream                       such as default, default:p9, default:returned
--       count, then for each message:
--       entry
--       for one to start, its mark   JSON of {stream, fields}, where fields are names and
--                                    values, the id among them; for others
--       id
--       state                        SUCCESS, FAILURE …, or '' to leave the record as it is
--       expires                      life of the record in milliseconds, 0 for ever
--       count of names and values, then as many for the record
--
-- Answers a text of 1 (settled, or run it) and 0 (was not yours any more), one for each
-- message.
-- Refuses with  FENCED consumer
--
-- @include keys
-- @include clock
-- @include endings
-- @include numbered

local consumer, number = ARGV[1], ARGV[2]

local before = answered(consumer, number)
if before then
  return before
end

local marks = key_of('started', consumer)
local answer = {}

local at = 3
while at <= #ARGV do
  local ack, stream, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local key, done = key_of('queue', stream), {}
  at = at + 3
  for _ = 1, count do
    local entry, mine = ARGV[at], nil
    if ack == 'early' then -- entries of different streams may have the same id
      mine = redis.call('HDEL', marks, stream .. ' ' .. entry)
    else
      mine = redis.call('XACK', key, 'workers', entry)
    end
    if ack == 'start' then
      if mine == 1 then
        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])
      else -- the mark is ours: then we started it, in a call that is not remembered any more
        mine = redis.call('HEXISTS', marks, stream .. ' ' .. entry)
      end
      at = at + 2
    else
      local id, state, expires = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
      local last = at + 4 + 2 * tonumber(ARGV[at + 4])
      if mine == 1 then
        if state ~= '' then
          finish(id, state, expires, 'worker', consumer, unpack(ARGV, at + 5, last))
        elseif tonumber(expires) > 0 then
          leave(id, expires, consumer)
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

return remember(consumer, number, table.concat(answer))
