-- One function per effect, each idempotent and with its own condition. A script makes few of them, and every call makes
-- its functions anew: a file of effects/*.lua is a function in `files`, by what it has, and fills `effects` once asked.
local effects, files = {}, nil
local function effect(name)
  if not effects[name] then files[name]() end
  return effects[name]
end
local function each(list)
  for _, e in ipairs(list) do effect(e[1])(e) end
end
-- The item under whose lease the effects are applied, its function, and when it is due again if one of them was a retry.
local current_item, current_fn, retry_at
-- Where that item goes back to, if one of them keyed it again: {partition, order, boost}.
local rekeyed
-- The results that a run begins with which is another one once more, {step, result, ...}, if the guard asked for them.
local inherited
