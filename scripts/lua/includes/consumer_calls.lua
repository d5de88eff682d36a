-- Calls that a consumer numbers: each is answered once; those of a dead consumer are refused.
--
-- @include keys

local MEMORY_MS = 600000 -- a call whose answer was lost is repeated within seconds, or never

-- The answer that this call got before, or the refusal FENCED.  Else nil, and the answer of an
-- earlier try that could not settle all messages: a character for each, - for what is left.  A
-- call with a word for a number may come again with other messages, so it has no such answer.
local function answered(consumer, number)
  local memory = redis.call('GET', key_of('settled', consumer))
  local last, answer = string.match(memory or '', '^(%S+) (.*)$')
  local same = last == number
  if same and not string.find(answer, '-', 1, true) then
    return answer, ''
  end
  if not redis.call('ZRANK', key_of('leases'), consumer) then
    return redis.error_reply('FENCED ' .. consumer)
  end
  return nil, same and tonumber(number) and answer or ''
end

-- Store the answer of a call.  Called last, so that a call that failed half-way is not taken
-- for one that was answered.
local function remember(consumer, number, answer)
  redis.call('SET', key_of('settled', consumer), number .. ' ' .. answer, 'PX', MEMORY_MS)
  return answer
end
