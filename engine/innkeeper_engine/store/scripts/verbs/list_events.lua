-- list_events: a page of an environment's events, newest first. env, name ('' for all but the engine's own), at {mode,
-- entry}, after ms, before (an entry, exclusive, or ''), limit, budget: entries that are looked at, bodies: whether events
-- come along, no more than about MOST_BYTES hold. Writes nothing.
-- Modes: '' from the newest; s all entries before this one, one by one; c this entry and those of the same name before it,
-- all before it where it has gone (shed).
-- Reply: {{{entry, event id, name, value or '', mode and entry to go on with}}, mode and entry to go on with}; the mode to go
-- on with is '' where nothing is left.
local list, names = P .. 'ei:' .. request.env, P .. 'en:' .. request.env
local wanted, oldest = request.name, digits(request.after)
local mode, at = request.at[1], request.at[2]
local found, looked, size = {}, 0, 0
local MOST_BYTES = 4 * 1024 * 1024
local PAGE = 128
local OWN = 'inngest/'
-- Names that come often are found near where one begins. Others have few events to go through from their newest.
local TRIED_AT_FIRST = 256
local untried = mode == '' and request.before ~= '' and wanted ~= ''

local function parts(entry)
  local ms, n = string.match(entry, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(n)
end

local function is_before(entry, other)
  local a, b = parts(entry)
  local c, d = parts(other)
  return a < c or a == c and b < d
end

-- The newest entry of the name that is wanted; 's' where that is not known.
local function newest_of_name()
  local known = call('HGET', names, wanted)
  if known then return 'c', string.match(known, '^%S+') end
  if call('HEXISTS', names, '') == 1 then return 's', '+' end
  return '', ''
end

local function follow(entry, previous)
  if wanted == '' or previous == '?' then return 's', entry end
  if previous == '' then return '', '' end
  return 'c', previous
end

local function take(entry, id, name, previous)
  mode, at = follow(entry, previous)
  local is_wanted = name == wanted or wanted == '' and string.sub(name, 1, #OWN) ~= OWN
  if not is_wanted or request.before ~= '' and not is_before(entry, request.before) then return end
  local key, value = P .. 'ev:' .. request.env .. ':' .. id, ''
  -- It is not kept any more.
  if call('STRLEN', key) == 0 then return end
  if request.bodies then
    value = call('GET', key)
    size = size + event_size(string.sub(value, 1, HEAD_BYTES), #value)
  end
  found[#found + 1] = {entry, id, name, value, mode, at}
end

local function is_full() return #found == request.limit or size > MOST_BYTES end

if mode == '' then
  if request.before ~= '' then
    mode, at = 's', request.before
  elseif wanted ~= '' then
    mode, at = newest_of_name()
  else
    mode, at = 's', '+'
  end
end

while mode ~= '' and not is_full() and looked < request.budget do
  if mode == 'c' then
    local entry = call('XRANGE', list, at, at)[1]
    looked = looked + 1
    if parts(at) < request.after then
      mode, at = '', ''
    elseif not entry then
      mode = 's'
    else
      take(entry[1], entry[2][2], entry[2][4], entry[2][6])
    end
  else
    local count = math.min(PAGE, request.budget - looked)
    local page = call('XREVRANGE', list, at == '+' and at or '(' .. at, oldest, 'COUNT', count)
    for _, entry in ipairs(page) do
      looked = looked + 1
      mode, at = 's', entry[1]
      if wanted == '' or entry[2][4] == wanted then
        take(entry[1], entry[2][2], entry[2][4], entry[2][6])
        if mode ~= 's' or is_full() then break end
      end
    end
    if mode == 's' and #page < count and not is_full() then
      mode, at = '', ''
    elseif untried and mode == 's' and looked >= TRIED_AT_FIRST then
      untried = false
      local other, entry = newest_of_name()
      if other ~= 's' then mode, at = other, entry end
    elseif mode == 'c' then
      untried = false
    end
  end
end
return {found, mode, at}
