-- The messages of a call, as publish.lua takes them.  Their headers and fields stay in ARGV: XADD
-- takes them from there.
--
-- @include now
-- @include route
-- @include scheduled

local LONGEST_ID = 200
local MOST_PAIRS = 3900 -- two values each, and `unpack` ends near 8000

-- A count of headers or fields, and the position of the last value in ARGV.
local function block(at)
  local count = tonumber(ARGV[at])
  local whole = count and count % 1 == 0 and count >= 0 and count <= MOST_PAIRS
  if whole and at + 2 * count <= #ARGV then
    return count, at + 2 * count
  end
end

-- The message that begins at a position of ARGV, and the position after it; nil and the reason
-- if it is malformed.
local function message_at(at)
  local headers, headers_end = block(at + 8)
  if not headers then
    return nil, 'bad-header-count'
  end
  local fields, last = block(headers_end + 1)
  local id, window, priority = ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 5]
  local chosen = ARGV[at + 3] == 'none' or (window or 0) > 0
  window = ARGV[at + 3] == 'none' and 0 or window
  local due, expires = moment_of(ARGV[at + 6]), moment_of(ARGV[at + 7])
  if not fields then
    return nil, 'bad-field-count'
  elseif fields < 1 or ARGV[headers_end + 2] ~= 'task' then
    return nil, 'first-field-is-not-task'
  elseif #id > LONGEST_ID or string.find(id, '[@:{}%c]') then
    return nil, 'bad-id'
  elseif not window or window < 0 or window % 1 ~= 0 then
    return nil, 'bad-window'
  elseif chosen and id == '' then
    return nil, 'window-without-id'
  elseif priority ~= '' and not string.find(priority, '^[0-9]$') then
    return nil, 'bad-priority'
  elseif due == nil or expires == nil then
    return nil, 'bad-moment'
  elseif due and id == '' then
    return nil, 'due-without-id'
  end
  local later = due and due > now and string.format('%.0f', due) or nil
  return { -- 16 fields at most: a larger table costs twice the memory
    at = at,
    headers_to = headers_end,
    to = last,
    id = id,
    task = ARGV[headers_end + 3],
    window = window,
    chosen = chosen,
    keep = ARGV[at + 4] == '1',
    priority = tonumber(priority) or 0,
    due = due,
    later = later,
    expires = expires,
    generation = false,
    answer = false,
    same_as = false,
    destination = false,
  },
    last + 1
end

-- Every message of ARGV from a position on; nil and a refusal if one is malformed.
local function messages_from(at)
  local messages = {}
  while at <= #ARGV do
    local message, after = message_at(at)
    if not message then
      return nil, refusal('BADMESSAGE', #messages, after)
    end
    messages[#messages + 1] = message
    at = after
  end
  return messages
end
