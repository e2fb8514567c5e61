-- Events. ev:<env>:<id> is "<seq> <received ms>\n<body>"; es:<env> lists what is not routed yet as <id><name>;
-- esq:<env> numbers the events of an environment from 1, ec:<env> is the number of the last one routed. An event is kept
-- for ever until it is routed: only then its retention begins.
local ID_LENGTH = 26

local function event_value(seq, body) return digits(seq) .. ' ' .. digits(now) .. '\n' .. body end

local function emit(env, id, name, body)
  local seq = call('INCR', P .. 'esq:' .. env)
  call('SET', P .. 'ev:' .. env .. ':' .. id, event_value(seq, body))
  call('RPUSH', P .. 'es:' .. env, id .. name)
  call('ZADD', P .. 'routes', 'NX', next_turn(), env)
  wake_router()
end

-- The first events in the stream have been routed. What a gathering holds is kept longer already.
local function events_are_over(env, count)
  for _, entry in ipairs(call('LRANGE', P .. 'es:' .. env, 0, count - 1)) do
    call('EXPIRE', P .. 'ev:' .. env .. ':' .. string.sub(entry, 1, ID_LENGTH), events_keep_s(env), 'NX')
  end
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
