-- The states of a task.  A final state is written once and never overwritten; a waiting task is
-- to start, or to start again.  Any other state belongs to a task that runs.

local FINAL = { SUCCESS = true, FAILURE = true, REVOKED = true }

-- A function, not a table: every script that ends tasks would pay for a second table.
local function is_waiting(state)
  return state == 'QUEUED' or state == 'SCHEDULED' or state == 'RETRY'
end
