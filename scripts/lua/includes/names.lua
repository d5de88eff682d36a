-- What messages of one id are called where they must be told apart.

-- The number of a generation, as text: what a field says, else the first.
local function generation_in(text)
  return text and #text < 16 and string.match(text, '^[1-9]%d*$') or '1'
end

-- What a message is called among those that are revoked, to be terminated or for later: ID,
-- ID::2, ID::3 …  No id holds a colon.
local function name_of(id, generation)
  return generation == '1' and id or id .. '::' .. generation
end

-- The id and the generation in such a name.
local function parted(name)
  local colons = string.find(name, '::', 1, true)
  if colons then
    return string.sub(name, 1, colons - 1), string.sub(name, colons + 2)
  end
  return name, '1'
end
