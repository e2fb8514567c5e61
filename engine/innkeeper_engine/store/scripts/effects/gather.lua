-- gather: 2 kind (debounce, batch), 3 group, 4 env, 5 fn, 6 event id, 7 period ms, 8 ceiling ms or 0, 9 most events,
-- 10 idempotency key or '', 11 key of the function's own idempotency or '', 12 effects where the latter is refused.
-- A debounce only looks at both: the right is taken by its run, with the last event's values. A batch takes them.
effects.gather = function(e)
  local kind, group, env, event = e[2], e[3], e[4], e[6]
  local stored = P .. 'ev:' .. env .. ':' .. event
  local size = event_size(call('GETRANGE', stored, 0, HEAD_BYTES - 1), call('STRLEN', stored))
  -- It expired before it was routed: there is nothing to run with.
  if size == 0 then return end
  local open, id = call('GET', P .. 'g:' .. group), group .. '#' .. event
  -- It comes once, by the router's cursor. What it has opened or is in already knows it besides.
  if is_gathered_in(open, event) or call('EXISTS', P .. 'gh:' .. id) == 1 then return end
  if e[10] ~= '' and call('EXISTS', P .. 'idem:' .. e[10]) == 1 then return end
  if e[11] ~= '' then
    local holder = call('GET', P .. 'once:' .. e[11])
    if is_gathered_in(holder, event) then return end
    if holder then return each(e[12]) end
  end
  local at
  if open then
    local known = call('HMGET', P .. 'gh:' .. open, 'at', 'sz')
    -- It may have been opened when more were to come together.
    local is_full = known[2] + size > MOST_GATHERED_BYTES or call('LLEN', P .. 'ge:' .. open) >= e[9]
    if kind == 'batch' and is_full then
      close_gathering(open, group)
      set_timer('G' .. open, now)
    else
      id, at = open, tonumber(known[1])
    end
  end
  if not at then
    at = now
    call('SET', P .. 'g:' .. group, id)
    call('HSET', P .. 'gh:' .. id, 'k', kind, 'e', env, 'fn', e[5], 'g', group, 'at', digits(now), 'sz', 0)
  end
  local due
  if kind == 'debounce' then
    for _, before in ipairs(call('LRANGE', P .. 'ge:' .. id, 0, -1)) do let_event_go(env, before) end
    call('DEL', P .. 'ge:' .. id)
    call('RPUSH', P .. 'ge:' .. id, event)
    due = now + e[7]
    if e[8] > 0 then due = math.min(due, at + e[8]) end
  else
    call('HINCRBY', P .. 'gh:' .. id, 'sz', size)
    due = at + e[7]
    if call('RPUSH', P .. 'ge:' .. id, event) >= e[9] then
      close_gathering(id, group)
      due = now
    end
    if e[10] ~= '' then call('SET', P .. 'idem:' .. e[10], id, 'EX', 86400) end
    if e[11] ~= '' then call('SET', P .. 'once:' .. e[11], id, 'EX', 86400) end
  end
  set_timer('G' .. id, due)
  hold_event(env, event, due)
end
