#!lua flags=allow-oom
-- Delete a dead letter for good.
--
-- KEYS  root of the namespace
-- ARGV  queue, letter
--
-- Answers 1, or 0 if there is no such letter.
--
-- @include keys
-- @include clock
-- @include finish
-- @include messages
-- @include dead

local queue, letter = ARGV[1], ARGV[2]
local there = redis.call('EXISTS', letter_key(queue, letter))
drop_letter(queue, letter)
return there
