#!lua flags=allow-oom
-- Check messages before they run: which are revoked, which have expired?
--
-- Called only for messages that carry an `expires` or may be among those that are revoked.
--
-- KEYS  root of the namespace
-- ARGV  for each message: name (its id, or from its second generation on ID::2), the name of
--       the fan-out that it is a copy of ('' if it is none), expires (server's time in
--       milliseconds, or '')
--
-- Answers a text: for each message 1 (run it), r (revoked) or e (expired).
--
-- @include keys
-- @include clock

local function is_revoked(id, base)
  local found = redis.call('ZMSCORE', key_of('revoked'), id, base)
  return found[1] or (base ~= '' and found[2])
end

local now, answer = clock(), {}
for i = 1, #ARGV, 3 do
  local expires = tonumber(ARGV[i + 2])
  if is_revoked(ARGV[i], ARGV[i + 1]) then
    answer[#answer + 1] = 'r'
  elseif expires and expires <= now then
    answer[#answer + 1] = 'e'
  else
    answer[#answer + 1] = '1'
  end
end
return table.concat(answer)
