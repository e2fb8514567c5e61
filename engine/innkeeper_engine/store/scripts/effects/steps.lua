-- save: 2 run, 3 step, 4 result, 5 whether the function goes on. The first result of a step wins; going on is
-- repeated all the same, so that a crash between the two heals.
effects.save = function(e)
  if not is_live(e[2]) then return end
  if record(e[2], e[3], e[4]) then
    tally(current_fn or call('HGET', P .. 'st:' .. e[2], 'fn'), 'o', raw_length(e[4]))
  end
  if e[5] then go_on(e[2], e[3]) end
end

-- plan: 2 run, 3 step, 4 kind (p, f), 5 sealed request or ''. A request of its own for one step, unless the step has
-- a result or an item.
effects.plan = function(e)
  local run, step = e[2], e[3]
  local id = run .. ':' .. step
  if call('HEXISTS', P .. 'pl:' .. run, step) == 1 or call('EXISTS', P .. 'i:' .. id) == 1 then return end
  local state = call('HMGET', P .. 'st:' .. run, 'sp', 'o', 'b')
  if not state[1] then return end
  new_item(id, run, e[4], step, state[1], state[2], nil, e[5] ~= '' and e[5] or nil, state[3])
  call('HSET', P .. 'i:' .. id, 'sl', call('LLEN', P .. 'sk:' .. run))
end

-- discover: 2 run.
effects.discover = function(e) discover(e[2]) end

-- pending: 2 run, 3 steps. The group that is waited for as a whole; what is done already is not waited for.
effects.pending = function(e)
  if not is_live(e[2]) then return end
  for _, step in ipairs(e[3]) do
    if call('HEXISTS', P .. 'pl:' .. e[2], step) == 0 then call('SADD', P .. 'pd:' .. e[2], step) end
  end
end

-- mode: 2 run, 3 execution version, 4 plan only ('' leaves it). What the SDK said of itself, for the next requests.
effects.mode = function(e)
  if not is_live(e[2]) then return end
  call('HSET', P .. 'st:' .. e[2], 'ver', e[3])
  if e[4] ~= '' then call('HSET', P .. 'st:' .. e[2], 'fp', e[4]) end
end
