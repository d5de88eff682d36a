-- Names of messages where several generations of one id must be told apart.

-- The number of a generation out of a field, as text; 1 if the field has none.
local function generation_in(text)
  return text and #text < 16 and string.match(text, '^[1-9]%d*$') or '1'
end

-- The name of a message in `revoked`, `terminating` and `scheduled`: ID, ID::2, ID::3 …  No id
-- contains a colon.
local function name_of(id, generation)
  return generation == '1' and id or id .. '::' .. generation
end

-- The id and the generation in such a name.
local function split_name(name)
  local colons = string.find(name, '::', 1, true)
  if colons then
    return string.sub(name, 1, colons - 1), string.sub(name, colons + 2)
  end
  return name, '1'
end
