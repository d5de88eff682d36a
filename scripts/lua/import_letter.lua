#!lua
-- Add a dead letter that was exported, here or elsewhere, as it was and with its time.
--
-- KEYS  root of the namespace
-- ARGV  queue, letter
--       at                           when it died, in milliseconds
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then names and values of all its fields
--
-- Answers {word, dropped}: how many other letters were dropped for it, and
--   kept       it is there now
--   known      it was there already, or was put back into its queue since
--   expired    it died longer ago than letters are kept
--   full       the queue has the most letters that it may have, all of them newer
--
-- @include keys
-- @include now
-- @include messages
-- @include dead

local queue, letter, at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limits = { most = tonumber(ARGV[4]), life_ms = tonumber(ARGV[5]) }
local fields = {}
for i = 6, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
at = math.min(at, now) -- a clock that was ahead must not make a letter stay longer

local dead = key_of('dead', queue)

-- Whether the letter was put back into its queue: then the task's record has this death.
local function was_retried()
  local history = redis.call('HGET', key_of('task', field(fields, 'id') or letter), 'history')
  return history and string.find(history, '{"at":' .. ARGV[3] .. ',', 1, true)
end

if at <= now - limits.life_ms then
  return { 'expired', 0 }
end
local name, number = letter, 1
while redis.call('ZSCORE', dead, name) do
  if redis.call('HGET', letter_key(queue, name), 'dead_at') == ARGV[3] then
    return { 'known', 0 }
  end
  number = number + 1
  name = letter .. '#' .. number
end
if was_retried() then
  return { 'known', 0 }
end
local held = redis.call('ZCARD', dead)
if held >= limits.most then
  local oldest = redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES')
  if not oldest[2] or at <= tonumber(oldest[2]) then
    return { 'full', 0 }
  end
end
keep_letter(queue, name, fields, at, limits)
return { 'kept', held + 1 - redis.call('ZCARD', dead) }
