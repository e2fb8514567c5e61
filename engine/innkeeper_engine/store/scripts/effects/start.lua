-- A run begins: once per run id, and once in 24 h per function where the sender chose the event's id.
-- e: 2 run, 3 env, 4 fn, 5 slug as JSON, 6 app, 7 events {id, body or ''}, 8 start partition, 9 step partition,
--    10 order, 11 due ms or 0, 12 cancels {pause, event, path, value, after, deadline, condition}, 13 parent pause or '',
--    14 idempotency key or '', 15 announces its end, 16 cron line or '', 17 retries
effects.start = function(e)
  local run, env = e[2], e[3]
  if call('EXISTS', P .. 'run:' .. run) == 1 then return end
  local bodies = {}
  for n, event in ipairs(e[7]) do
    bodies[n] = event[2] ~= '' and event[2] or event_of(env, event[1])
    -- It expired before it was routed: there is nothing to run with.
    if not bodies[n] then return end
  end
  if e[14] ~= '' and not call('SET', P .. 'idem:' .. e[14], run, 'NX', 'EX', 86400) then return end
  local ids, size, payload = {}, 0, {}
  for n, event in ipairs(e[7]) do
    local body = bodies[n]
    ids[n] = event[1]
    size = size + #body
    payload[#payload + 1] = 'e:' .. (n - 1)
    payload[#payload + 1] = body
    local list = P .. 'er:' .. env .. ':' .. event[1]
    if call('RPUSH', list, run) > 1 then call('PERSIST', list) end
    call('INCR', P .. 'el:' .. env .. ':' .. event[1])
  end
  call('HSET', P .. 'pl:' .. run, unpack(payload))
  call('HSET', P .. 'run:' .. run, 'e', env, 'f', string.sub(e[4], #env + 2), 'a', e[6], 's', 'Scheduled', 'q', digits(now),
    'ev', table.concat(ids, ' '), 'cr', e[16])
  call('HSET', P .. 'st:' .. run, 'e', env, 'fn', e[4], 'fj', e[5], 'ver', -1, 'fp', 0, 'sz', size, 'ec', #ids,
    'sp', e[9], 'o', e[10], 'dn', 0, 'q', digits(now), 'ne', e[15] and 0 or 1, 're', e[17])
  if e[13] ~= '' then call('HSET', P .. 'st:' .. run, 'parent', e[13]) end
  call('ZADD', P .. 'runs:' .. env, now, run)
  run_made(e[4], run)
  for _, c in ipairs(e[12]) do
    add_pause(c[1], {r = run, s = '', k = 'cancel', e = env, n = c[2]}, c[3], c[4], c[5], c[6], c[7], '')
  end
  new_item(run .. '.0', run, 's', 'step', e[8], e[10], e[11])
end

-- A run that would have begun is only recorded. e: 2 run, 3 env, 4 fn, 5 app, 6 event ids, 7 idempotency key or '',
-- 8 cron line or '', 9 note, 10 parent pause or '', 11 its result.
effects.skip = function(e)
  local run, env = e[2], e[3]
  if call('EXISTS', P .. 'run:' .. run) == 1 then return end
  if e[7] ~= '' and call('EXISTS', P .. 'idem:' .. e[7]) == 1 then return end
  call('HSET', P .. 'run:' .. run, 'e', env, 'f', string.sub(e[4], #env + 2), 'a', e[5], 's', 'Skipped', 'q', digits(now),
    'z', digits(now), 'ev', table.concat(e[6], ' '), 'cr', e[8])
  call('EXPIRE', P .. 'run:' .. run, request.keep)
  for _, id in ipairs(e[6]) do
    local list = P .. 'er:' .. env .. ':' .. id
    call('RPUSH', list, run)
    -- Otherwise the end of those of its runs that go on will do so.
    if call('EXISTS', P .. 'el:' .. env .. ':' .. id) == 0 then call('EXPIRE', list, request.keep) end
  end
  call('ZADD', P .. 'runs:' .. env, now, run)
  call('ZADD', P .. 'ended:' .. env, now, run)
  forget_runs(env)
  note(run, e[9])
  if e[10] ~= '' then resolve(e[10], e[11]) end
end
