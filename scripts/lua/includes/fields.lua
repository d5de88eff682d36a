-- The fields of a message: names and values in one list, as XRANGE answers them.
--
-- @include names

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
end

-- The generation of its id that a message belongs to.
local function generation_of(fields)
  return generation_in(field(fields, 'generation'))
end

local FIRST = {}

-- The fields of a message of which only the generation is known.
local function with_generation(generation)
  return generation == '1' and FIRST or { 'generation', generation }
end
