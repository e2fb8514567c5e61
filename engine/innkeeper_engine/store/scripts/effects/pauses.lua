-- A pause with its index: event waits are found by (env, event name, path, value); path '' means every such event.
effects.add_pause = function(id, pause, path, value, after, deadline, condition, on_timeout)
  local fields = {'to', on_timeout, 'x', condition}
  if pause.k == 'event' or pause.k == 'cancel' then
    pause.i = pause.e .. ':' .. pause.n .. '\1' .. path .. '\1' .. value
    pause.pa = path
    call('ZADD', P .. 'wi:' .. pause.i, after, id)
    call('HINCRBY', P .. 'wp:' .. pause.e .. ':' .. pause.n, path, 1)
  elseif pause.k == 'signal' then
    call('SET', P .. 'sig:' .. pause.e .. ':' .. pause.n, id)
  end
  for k, v in pairs(pause) do
    fields[#fields + 1] = k
    fields[#fields + 1] = v
  end
  call('HSET', P .. 'w:' .. id, unpack(fields))
  call('SADD', P .. 'ri:' .. pause.r, 'w' .. id)
  set_timer('w' .. id, deadline)
end

-- wait: 2 pause, 3 run, 4 step, 5 kind, 6 env, 7 name (event, signal), 8 path, 9 value, 10 deadline ms, 11 condition,
-- 12 result when the time is over, 13 effects instead, where a signal has its waiter already (nil: replace it),
-- 14 effects that go with a new pause: what asks for it twice gets them once.
-- A wait sees the events accepted after it was committed.
effects.wait = function(e)
  local id, run, step = e[2], e[3], e[4]
  if not is_live(run) or call('EXISTS', P .. 'w:' .. id) == 1 then return end
  if call('HEXISTS', P .. 'pl:' .. run, step) == 1 then return end
  if e[5] == 'signal' then
    local other = call('GET', P .. 'sig:' .. e[6] .. ':' .. e[7])
    if other and other ~= id then
      if e[13] then
        return each(e[13])
      end
      local pause = hash(P .. 'w:' .. other)
      if pause.r then resolve(other, pause.to) end
    end
  end
  local after = tonumber(call('GET', P .. 'esq:' .. e[6]) or '0')
  effect('add_pause')(id, {r = run, s = step, k = e[5], e = e[6], n = e[7]}, e[8], e[9], after, e[10], e[11], e[12])
  each(e[14])
end

-- resolve: 2 pause, 3 result.
effects.resolve = function(e) resolve(e[2], e[3]) end

-- resume: 2 pause, 3 env, 4 event id. An event is what was waited for; the whole event is the step's result.
local resumed_id, resumed_body
effects.resume = function(e)
  if resumed_id ~= e[4] then
    resumed_id, resumed_body = e[4], (event_of(e[3], e[4]))
  end
  if resumed_body then resolve(e[2], resumed_body) end
end
