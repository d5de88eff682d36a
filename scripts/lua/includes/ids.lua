-- Streams that are out of ids: somebody has added an entry with the highest id there is, and
-- Redis adds no other after it.
--
-- @include keys

-- Whether the answer to an XADD says so.
local function is_out_of_ids(answer)
  return type(answer) == 'table' and string.find(tostring(answer.err), 'last possible ID', 1, true)
end

-- Whether a stream is out of ids.  It is asked to add what no stream adds: why it refuses
-- that is the answer.  Only one that never had an entry adds it, and drops it in the same step.
local function is_spent(key)
  return is_out_of_ids(redis.pcall('XADD', key, 'NOMKSTREAM', 'MAXLEN', 0, '0-1', 'id', ''))
end
