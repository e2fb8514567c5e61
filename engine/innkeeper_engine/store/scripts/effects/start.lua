local UNLISTED_WITH_SKIPPED = 4
-- A run that would have begun is only recorded.
local function record_skipped(run, env, fn, app, ids, cron, why, parent, reply)
  end_summary(env, run, 'Skipped', 'e', env, 'f', string.sub(fn, #env + 2), 'a', app, 'q', digits(now),
    'ev', table.concat(ids, ' '), 'cr', cron)
  for _, id in ipairs(ids) do
    local list = P .. 'er:' .. env .. ':' .. id
    call('RPUSH', list, run)
    -- Otherwise the end of those of its runs that go on will do so.
    if call('EXISTS', P .. 'el:' .. env .. ':' .. id) == 0 then call('EXPIRE', list, runs_keep_s(env)) end
  end
  list_run(env, fn, run, 'Skipped')
  list_function(env, fn)
  keep_list(env, fn, 'Skipped')
  unlist_runs(env, fn, 'Skipped', UNLISTED_WITH_SKIPPED)
  keep_ended(env, run)
  note(run, why)
  if parent ~= '' then resolve(parent, reply) end
end

-- What start goes by beyond the plain run: timeouts, priority, when it was made if not now, as fields of its state.
local function start_options(e, run, fields)
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if e[13] ~= '' then add('parent', e[13]) end
  if e[19] > 0 or e[20] > 0 then add('ti', e[21][1] .. ' ' .. e[21][2]) end
  if e[19] > 0 then
    add('ot', 1)
    set_timer('O' .. run, math.max(now, e[11]) + e[19])
  end
  if e[20] > 0 then add('ft', e[20]) end
  if e[22] ~= 0 then add('b', e[22]) end
  if e[23] ~= 0 and e[23] ~= now then add('m', digits(e[23])) end
end

-- A run begins: once per run id, and once in 24 h per function where the sender chose the event's id; if all of its
-- rights are granted, else it is recorded as skipped.
-- e: 2 run, 3 env, 4 fn, 5 slug as JSON, 6 app, 7 events {id, body or ''}, 8 start partition, 9 step partition,
--    10 order, 11 due ms or 0, 12 cancels {pause, event, path, value, after, deadline, condition}, 13 parent pause or '',
--    14 idempotency key or '', 15 announces its end, 16 cron line or '', 17 retries, 18 rights, 19 timeouts.start in ms
--    or 0, 20 timeouts.finish in ms or 0, 21 two ids for the end by a timeout, 22 priority in ms or 0, 23 when it was made (ms) or 0: now,
--    24 trace or '': that of the first event that has one
effects.start = function(e)
  local run, env = e[2], e[3]
  if call('EXISTS', P .. 'run:' .. run) == 1 then return end
  local bodies, ids = {}, {}
  local trace = e[24] ~= '' and e[24] or nil
  for n, event in ipairs(e[7]) do
    ids[n] = event[1]
    bodies[n] = event[2]
    if event[2] == '' then
      local body, _, sent = event_of(env, event[1])
      bodies[n], trace = body, trace or sent
    end
    -- It expired before it was routed: there is nothing to run with.
    if not bodies[n] then return end
  end
  if e[14] ~= '' and call('EXISTS', P .. 'idem:' .. e[14]) == 1 then return end
  for _, r in ipairs(e[18]) do
    local kind = effect('rights')[r[1]]
    if kind.refused(r) then
      return record_skipped(run, env, e[4], e[6], ids, e[16], r[kind.note], e[13], r[kind.reply])
    end
  end
  local fields = {}
  if e[14] ~= '' then call('SET', P .. 'idem:' .. e[14], run, 'EX', 86400) end
  for _, r in ipairs(e[18]) do effect('rights')[r[1]].take(r, run, fields) end
  local size, stored, payload = 0, 0, {}
  for n, body in ipairs(bodies) do
    size, stored = size + raw_length(body), stored + #body
    payload[#payload + 1] = 'e:' .. (n - 1)
    payload[#payload + 1] = body
    local list = P .. 'er:' .. env .. ':' .. ids[n]
    if call('RPUSH', list, run) > 1 then call('PERSIST', list) end
    call('INCR', P .. 'el:' .. env .. ':' .. ids[n])
  end
  call('HSET', P .. 'pl:' .. run, unpack(payload))
  call('HSET', P .. 'run:' .. run, 'e', env, 'f', string.sub(e[4], #env + 2), 'a', e[6], 's', 'Scheduled', 'q', digits(now),
    'ev', table.concat(ids, ' '), 'cr', e[16])
  start_options(e, run, fields)
  if size ~= stored then
    fields[#fields + 1] = 'sv'
    fields[#fields + 1] = size - stored
  end
  if trace then
    fields[#fields + 1] = 'tp'
    fields[#fields + 1] = trace
    call('HSET', P .. 'run:' .. run, 'tp', trace)
  end
  call('HSET', P .. 'st:' .. run, 'e', env, 'fn', e[4], 'fj', e[5], 'ver', -1, 'fp', 0, 'sz', size, 'ec', #ids,
    'sp', e[9], 'o', e[10], 'dn', 0, 'q', digits(now), 'ne', e[15] and 0 or 1, 're', e[17],
    'la', list_run(env, e[4], run, 'Scheduled'), unpack(fields))
  run_made(env, e[4], run)
  for _, c in ipairs(e[12]) do
    effect('add_pause')(c[1], {r = run, s = '', k = 'cancel', e = env, n = c[2]}, c[3], c[4], c[5], c[6], c[7], '')
  end
  new_item(run .. '.0', run, 's', 'step', e[8], e[10], e[11], nil, e[22])
end

-- skip: 2 run, 3 env, 4 fn, 5 app, 6 event ids, 7 idempotency key or '', 8 cron line or '', 9 note, 10 parent pause or '',
-- 11 its result.
effects.skip = function(e)
  if call('EXISTS', P .. 'run:' .. e[2]) == 1 then return end
  if e[7] ~= '' and call('EXISTS', P .. 'idem:' .. e[7]) == 1 then return end
  record_skipped(e[2], e[3], e[4], e[5], e[6], e[8], e[9], e[10], e[11])
end
