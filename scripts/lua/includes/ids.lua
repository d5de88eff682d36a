-- Streams that are out of ids: an entry with the highest possible id was added by hand, and
-- Redis adds no other after it.
--
-- @include keys

-- Whether the answer to an XADD says that its stream is out of ids.
local function is_out_of_ids(answer)
  return type(answer) == 'table' and string.find(tostring(answer.err), 'last possible ID', 1, true)
end

-- Whether a stream is out of ids.  It is asked to add an id that is too low: the reason why it
-- refuses tells.  Only a stream that never had an entry adds it, and MAXLEN 0 drops it at once.
local function stream_is_out_of_ids(key)
  return is_out_of_ids(redis.pcall('XADD', key, 'NOMKSTREAM', 'MAXLEN', 0, '0-1', 'id', ''))
end
