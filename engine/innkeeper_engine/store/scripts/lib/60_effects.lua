-- One function per effect, filled by effects/*.lua; each is idempotent and carries its own condition.
local effects = {}
local function each(list)
  for _, effect in ipairs(list) do effects[effect[1]](effect) end
end
-- Defined beside the effects, used by several of them.
local add_pause
-- The item under whose lease the effects are applied, its function, and when it is due again if one of them was a retry.
local current_item, current_fn, retry_at
-- Where that item goes back to, if one of them keyed it again: {partition, order, boost}.
local rekeyed
