#!lua flags=allow-oom
-- Declare a queue, with a consumer group on each of its streams.  The newest settings replace
-- older ones.
--
-- KEYS  root of the namespace
-- ARGV  name, settings as a JSON object: max_priority, max_length, … ('{}' if none)
--
-- Answers {1} for a new queue, {0} for one as it was, {0, old settings} for one whose
-- settings changed.  Refuses with
--   BADNAME name                      not 1–200 bytes, or with @ : { } or control characters
--   BADSETTINGS name                  not a JSON object, or its limits are no whole numbers
--
-- @include keys
-- @include streams
-- @include route
-- @include topology

local name, settings = ARGV[1], ARGV[2]

-- A whole number in this range, or not given.
local function whole(value, least, most)
  if value == nil or value == cjson.null then
    return true
  end
  return type(value) == 'number' and value >= least and value <= most and value % 1 == 0
end

if bad_name(name) then
  return refusal('BADNAME', name)
end
local is_json, wanted = pcall(cjson.decode, settings)
if
  not (is_json and type(wanted) == 'table')
  or not whole(wanted.max_priority, 0, 9)
  or not whole(wanted.max_length, 0, 2 ^ 53)
  or not whole(wanted.message_ttl, 0, 2 ^ 53)
then
  return refusal('BADSETTINGS', name)
end

local streams = { key_of('queue', name), key_of('queue', name .. ':returned') }
if type(wanted.max_priority) == 'number' then
  for level = 1, wanted.max_priority do
    streams[#streams + 1] = level_key(name, level)
  end
end
for _, stream in ipairs(streams) do
  local failed = make_group(stream)
  if failed then
    return failed
  end
end

local old = redis.call('HGET', key_of('queues'), name)
redis.call('HSET', key_of('queues'), name, settings)

if not old then
  return { 1 }
end
return old == settings and { 0 } or { 0, old }
