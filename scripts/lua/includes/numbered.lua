-- Calls that a consumer numbers: each is answered once, and those of the dead are refused.
--
-- @include keys

local MEMORY_MS = 600000 -- a lost answer is asked for again within seconds, or never

-- The answer that this call got before, or FENCED.  Else nil, and how far it came if it
-- could not be done as a whole: a letter for each message, - for what is left.  A call that
-- has a word for a number need not come again with the same messages.
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

-- Last of all, so that a call that failed half-way is not taken for one that was answered.
local function remember(consumer, number, answer)
  redis.call('SET', key_of('settled', consumer), number .. ' ' .. answer, 'PX', MEMORY_MS)
  return answer
end
