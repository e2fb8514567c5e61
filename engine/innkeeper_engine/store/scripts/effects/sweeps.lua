-- swept: 2 env, 3 cancellation, 4 phase, 5 cursor, 6 looked, 7 cancelled, 8 due ms or 0. A page of runs has been looked
-- through; `forgotten` takes the cancellation away.
effects.swept = function(e)
  local env, id = e[2], e[3]
  if call('HEXISTS', P .. 'cx:' .. env, id) == 0 then return end
  if e[4] == 'forgotten' then
    forget_cancellation(env, id)
    new_registry_version()
    return
  end
  local key = P .. 'swp:' .. env .. '/' .. id
  call('HSET', key, 'phase', e[4], 'cursor', e[5])
  call('HINCRBY', key, 'looked', e[6])
  call('HINCRBY', key, 'cancelled', e[7])
  set_timer('J' .. env .. '/' .. id, math.max(now, e[8]))
end
