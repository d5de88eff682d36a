#!lua flags=allow-oom
-- Look at messages before they run: which of them are revoked, which have expired?
--
-- Asked only of messages that carry an `expires`, and of all while anything is revoked.
--
-- KEYS  root of the namespace
-- ARGV  for each message: id, expires (server's time in milliseconds, or '')
--
-- Answers a text: for each message 1 (run it), r (revoked) or e (expired).
--
-- @include keys
-- @include clock

local now, answer = clock(), {}
for i = 1, #ARGV, 2 do
  local expires = tonumber(ARGV[i + 1])
  if redis.call('ZSCORE', key_of('revoked'), ARGV[i]) then
    answer[#answer + 1] = 'r'
  elseif expires and expires <= now then
    answer[#answer + 1] = 'e'
  else
    answer[#answer + 1] = '1'
  end
end
return table.concat(answer)
