-- finish: 2 run, 3 status, 4 output or '', 5 error for events or '', 6 raw error or '', 7 reply to an invoker,
-- 8 two ids for the events.
effects.finish = function(e)
  local function some(v) return v ~= '' and v or nil end
  end_run(e[2], e[3], {output = some(e[4]), error = some(e[5]), result = some(e[6]) or some(e[4]), reply = some(e[7]),
    ids = e[8]}, current_item)
end

-- cancel: 2 run, 3 two ids for the events, 4 note. 5 the pause that must still be there, or ''.
effects.cancel = function(e)
  if e[5] ~= '' and call('EXISTS', P .. 'w:' .. e[5]) == 0 then return end
  if end_run(e[2], 'Cancelled', {ids = e[3]}, nil) and e[4] ~= '' then note(e[2], e[4]) end
end
