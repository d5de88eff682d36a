-- States that are written once and never overwritten.

local FINAL = { SUCCESS = true, FAILURE = true, REVOKED = true }
