-- Publisher channels: a call that is sent again gets the answer that it got before.
--
-- @include keys
-- @include route

local CHANNEL_MEMORY_MS = 600000 -- a lost answer is asked for within seconds, or never

-- What identifies a call: its number and first id.  The number alone may have been used by
-- another process too, where a whole machine was copied.
local function mark_of(number)
  return number .. ' ' .. (ARGV[5] or '')
end

-- The answers that this call got before; a refusal if it is stale; nil if it is new.
local function answered_before(channel, number)
  local memory = redis.call('GET', key_of('publisher', channel))
  if not memory then
    return nil
  end
  local last = string.match(memory, '^[^\n]*')
  if last == mark_of(number) then
    -- a write, so that a WAIT that follows is about this call
    redis.call('PEXPIRE', key_of('publisher', channel), CHANNEL_MEMORY_MS)
    local answers = {}
    for answer in string.gmatch(string.sub(memory, #last + 2), '[^\n]+') do
      answers[#answers + 1] = answer
    end
    return answers
  end
  local newest = string.match(last, '^%d+')
  if tonumber(newest) >= tonumber(number) then
    return refusal('STALE', number, newest)
  end
end

local function remember_answers(channel, number, answers)
  local memory = mark_of(number) .. '\n' .. table.concat(answers, '\n')
  redis.call('SET', key_of('publisher', channel), memory, 'PX', CHANNEL_MEMORY_MS)
end
