-- The moment of this call, by the server's clock.
--
-- @include clock

local now = clock() -- in milliseconds
local moment = string.format('%.0f', now) -- as text: Redis formats numbers slowly
