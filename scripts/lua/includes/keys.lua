-- The name of every key.  KEYS[1] is the namespace's root, such as `{streamq}`:
-- its braces keep all keys of a namespace in one hash slot.
--
-- One function for all of them, because a script creates its functions anew at every call.

local root = KEYS[1]

-- key_of('leases') is {streamq}:leases, key_of('task', id) is {streamq}:task:ID.
local function key_of(kind, name)
  if name then
    return root .. ':' .. kind .. ':' .. name
  end
  return root .. ':' .. kind
end
