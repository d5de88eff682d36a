#!lua flags=no-writes,allow-oom
-- Report which commands the caller's user may not send.  Nothing is executed.
--
-- KEYS  root of the namespace
-- ARGV  for each command: count, then as many words of it
--
-- Answers the positions, counted from 0, of the commands that are not permitted.  A command
-- that the server does not know counts as permitted: calling it gives a clear error.

local check = redis.acl_check_cmd
local denied, place, at = {}, 0, 1
while check and at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  local known, permitted = pcall(check, unpack(ARGV, at + 1, last))
  if known and not permitted then
    denied[#denied + 1] = place
  end
  place, at = place + 1, last + 1
end
return denied
