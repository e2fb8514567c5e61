-- Gatherings: events that will start one run. g:<group> is the id of the open one; ge:<id> its event ids; gh:<id> is
-- k kind, e env, fn, g group, at first event (ms), sz bytes of the events, c once it is closed. The timer G<id> says when
-- it is due. A closed one stays until its run is made. eg:<env> counts, by event, the gatherings that hold it: their runs
-- must find it, however late somebody comes to make them.
local MOST_GATHERED_BYTES = 10 * 1024 * 1024
-- Beyond the time when the gathering is due. Nobody is away for so long; not for ever, for other versions let it be.
local HELD_S = 366 * 86400

local function hold_event(env, event, due)
  local stored, held_s = P .. 'ev:' .. env .. ':' .. event, math.ceil(math.max(0, due - now) / 1000) + HELD_S
  call('HINCRBY', P .. 'eg:' .. env, event, 1)
  if call('EXPIRE', stored, held_s, 'NX') == 0 then call('EXPIRE', stored, held_s, 'GT') end
end

-- With the last that held it, its retention begins.
local function let_event_go(env, event)
  if call('HINCRBY', P .. 'eg:' .. env, event, -1) > 0 then return end
  call('HDEL', P .. 'eg:' .. env, event)
  call('EXPIRE', P .. 'ev:' .. env .. ':' .. event, events_keep_s(env))
end

-- Events that come later open another one.
local function close_gathering(id, group)
  if call('GET', P .. 'g:' .. group) == id then call('DEL', P .. 'g:' .. group) end
  call('HSET', P .. 'gh:' .. id, 'c', 1)
end

local function is_gathered_in(id, event)
  return id and call('LPOS', P .. 'ge:' .. id, event) ~= false
end

local function drop_gathering(id)
  local env = call('HGET', P .. 'gh:' .. id, 'e')
  for _, event in ipairs(call('LRANGE', P .. 'ge:' .. id, 0, -1)) do let_event_go(env, event) end
  call('DEL', P .. 'gh:' .. id, P .. 'ge:' .. id)
  clear_timer('G' .. id)
end
