-- Gatherings: events that will start one run. g:<group> is the id of the open one; ge:<id> its event ids; gh:<id> is
-- k kind, e env, fn, g group, at first event (ms), sz bytes of the events, c once it is closed. The timer G<id> says when
-- it is due. A closed one stays until its run is made.
local MOST_GATHERED_BYTES = 10 * 1024 * 1024

-- Events that come later open another one.
local function close_gathering(id, group)
  if call('GET', P .. 'g:' .. group) == id then call('DEL', P .. 'g:' .. group) end
  call('HSET', P .. 'gh:' .. id, 'c', 1)
end

local function is_gathered_in(id, event)
  return id and call('LPOS', P .. 'ge:' .. id, event) ~= false
end

local function drop_gathering(id)
  call('DEL', P .. 'gh:' .. id, P .. 'ge:' .. id)
  clear_timer('G' .. id)
end
