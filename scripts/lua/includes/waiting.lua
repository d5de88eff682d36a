-- States of a task that does not run: it waits to start, or to start again.

local WAITING = { QUEUED = true, SCHEDULED = true, RETRY = true }
