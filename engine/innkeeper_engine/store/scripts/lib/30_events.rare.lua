-- Events. ev:<env>:<id> is "<seq> <received ms>[ <trace>]\n<body>"; es:<env> lists what is not routed yet as <id><name>;
-- esq:<env> numbers the events of an environment from 1, ec:<env> is the number of the last one routed. An event is kept
-- for ever until it is routed: only then its retention begins.
local ID_LENGTH = 26

local function event_value(seq, body, trace)
  local head = digits(seq) .. ' ' .. digits(now)
  if trace and trace ~= '' then head = head .. ' ' .. trace end
  return head .. '\n' .. body
end

-- {id, name, body}, at most 256 of an environment.
local function emit_all(env, events, trace)
  local before = call('INCRBY', P .. 'esq:' .. env, #events) - #events
  local values, entries = {}, {}
  for n, event in ipairs(events) do
    values[2 * n - 1] = P .. 'ev:' .. env .. ':' .. event[1]
    values[2 * n] = event_value(before + n, event[3], trace)
    entries[n] = event[1] .. event[2]
  end
  call('MSET', unpack(values))
  call('RPUSH', P .. 'es:' .. env, unpack(entries))
  list_events(env, events, before)
  call('ZADD', P .. 'routes', 'NX', next_turn(), env)
  wake_router()
end

local function emit(env, id, name, body, trace) emit_all(env, {{id, name, body}}, trace) end

-- The first events in the stream have been routed. Those that gatherings hold have another expiry already.
local function events_are_over(env, count)
  for _, entry in ipairs(call('LRANGE', P .. 'es:' .. env, 0, count - 1)) do
    call('EXPIRE', P .. 'ev:' .. env .. ':' .. string.sub(entry, 1, ID_LENGTH), events_keep_s(env), 'NX')
  end
end

-- The body, the number and the trace of a stored event.
local function event_of(env, id)
  local value = call('GET', P .. 'ev:' .. env .. ':' .. id)
  if not value then return nil end
  local line = string.find(value, '\n', 1, true)
  local seq, trace = string.match(string.sub(value, 1, line - 1), '^(%d+) %d+ ?(.*)$')
  return string.sub(value, line + 1), tonumber(seq), trace ~= '' and trace or nil
end

-- How large a stored event is as it was sent, by the beginning of its value and the size of that.
local HEAD_BYTES = 160
local function event_size(head, size) return tonumber(string.match(head, '^%d+ %d+[^\n]*\nz(%d+)\n')) or size end
