-- Events. ev:<env>:<id> is "<seq> <received ms>\n<body>"; es:<env> lists what is not routed yet as <id><name>;
-- esq:<env> numbers the events of an environment from 1, ec:<env> is the number of the last one routed.
local ID_LENGTH = 26

local function store_event(env, id, body, retention_s, seq)
  call('SET', P .. 'ev:' .. env .. ':' .. id, digits(seq) .. ' ' .. digits(now) .. '\n' .. body, 'EX', retention_s)
end

local function emit(env, id, name, body, retention_s)
  local seq = call('INCR', P .. 'esq:' .. env)
  store_event(env, id, body, retention_s, seq)
  call('RPUSH', P .. 'es:' .. env, id .. name)
  call('ZADD', P .. 'routes', 'NX', next_turn(), env)
  wake_router()
end

-- The body and the number of a stored event.
local function event_of(env, id)
  local value = call('GET', P .. 'ev:' .. env .. ':' .. id)
  if not value then return nil end
  local space, line = string.find(value, ' ', 1, true), string.find(value, '\n', 1, true)
  return string.sub(value, line + 1), tonumber(string.sub(value, 1, space - 1))
end

-- How large a stored event is as it was sent, by the beginning of its value and the size of that.
local HEAD_BYTES = 64
local function event_size(head, size) return tonumber(string.match(head, '^%d+ %d+\nz(%d+)\n')) or size end
