#!lua
-- Keep a dead letter that was exported, here or elsewhere, as it was and with its time.
--
-- KEYS  root of the namespace
-- ARGV  queue, letter
--       at                           when it died, in milliseconds
--       most, life                   how many dead letters a queue keeps, and how long (ms)
--       then names and values of all its fields
--
-- Answers {word, dropped}: how many other letters made room for it, and
--   kept       it is there now
--   known      it was there already, or has been put back since
--   expired    it died longer ago than letters are kept
--   crowded    the queue is full of newer ones
--
-- @include keys
-- @include clock
-- @include endings
-- @include messages
-- @include dead

local queue, letter, at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limits = { most = tonumber(ARGV[4]), life_ms = tonumber(ARGV[5]) }
local fields = {}
for i = 6, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
at = math.min(at, now) -- a clock that is ahead must not make letters that stay longer

local dead = key_of('dead', queue)

-- Put back here: then the task remembers this death.
local function put_back()
  local history = redis.call('HGET', key_of('task', field(fields, 'id') or letter), 'history')
  return history and string.find(history, '{"at":' .. ARGV[3] .. ',', 1, true)
end

if at <= now - limits.life_ms then
  return { 'expired', 0 }
end
local name, twin = letter, 1
while redis.call('ZSCORE', dead, name) do
  if redis.call('HGET', letter_key(queue, name), 'dead_at') == ARGV[3] then
    return { 'known', 0 }
  end
  twin = twin + 1
  name = letter .. '#' .. twin
end
if put_back() then
  return { 'known', 0 }
end
local held = redis.call('ZCARD', dead)
if held >= limits.most then
  local oldest = redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES')
  if not oldest[2] or at <= tonumber(oldest[2]) then
    return { 'crowded', 0 }
  end
end
keep_letter(queue, name, fields, at, limits)
return { 'kept', held + 1 - redis.call('ZCARD', dead) }
