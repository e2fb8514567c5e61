-- replay: 2 env, 3 id, 4 body or '' to forget it, 5 due ms. rpl:<env> holds all of an environment by id, rpp:<env>/<id> how
-- far each is: revision, phase, why it waits, the last run that was looked at and when that was made, counts.
effects.replay = function(e)
  local env, id = e[2], e[3]
  local timer = 'R' .. env .. '/' .. id
  if e[4] == '' then
    call('HDEL', P .. 'rpl:' .. env, id)
    if call('EXISTS', P .. 'rpl:' .. env) == 0 then call('SREM', P .. 'rpls', env) end
    call('DEL', P .. 'rpp:' .. env .. '/' .. id)
    clear_timer(timer)
    return
  end
  call('SADD', P .. 'rpls', env)
  if call('HSETNX', P .. 'rpl:' .. env, id, e[4]) == 1 then set_timer(timer, math.max(now, e[5])) end
end

-- replayed: 2 env, 3 id, 4 phase, 5 why it waits or '', 6 ms, 7 the last run, 8 looked, 9 replayed, 10 unavailable, 11 due ms
-- or 0. A page of runs has been looked at.
effects.replayed = function(e)
  local env, id = e[2], e[3]
  if call('HEXISTS', P .. 'rpl:' .. env, id) == 0 then return end
  local key = P .. 'rpp:' .. env .. '/' .. id
  call('SADD', P .. 'rpls', env)
  call('HSET', key, 'phase', e[4], 'why', e[5], 'at_ms', digits(e[6]), 'last', e[7])
  call('HINCRBY', key, 'looked', e[8])
  call('HINCRBY', key, 'replayed', e[9])
  call('HINCRBY', key, 'unavailable', e[10])
  set_timer('R' .. env .. '/' .. id, math.max(now, e[11]))
end
