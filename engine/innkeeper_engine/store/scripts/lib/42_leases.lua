-- Leases one item that a visit gave, to an executor, under its token; `stale`: only to be keyed again.
local function lease_item(id, executor, token, lease_ms, inline_bytes, stale)
  local ikey = P .. 'i:' .. id
  local item = call('HGETALL', ikey)
  local run, generation, planned_at
  for i = 1, #item, 2 do
    if item[i] == 'r' then run = item[i + 1]
    elseif item[i] == 'g' then generation = item[i + 1] + 1
    elseif item[i] == 'sl' then planned_at = tonumber(item[i + 1]) end
  end
  call('HSET', ikey, 'st', 'l', 'tk', token, 'ex', executor, 'g', generation, 'lm', lease_ms)
  call('SADD', P .. 'x:' .. executor, id)
  set_timer('L' .. id, now + lease_ms)
  local skey = P .. 'st:' .. run
  local state = call('HGETALL', skey)
  if stale then return lease_to_key(id, token, generation, item, state, run, inline_bytes) end
  local size, events, started, waiting, fn, start_timeout, finish_timeout, listed
  for i = 1, #state, 2 do
    if state[i] == 'sz' then size = tonumber(state[i + 1])
    elseif state[i] == 'ec' then events = tonumber(state[i + 1])
    elseif state[i] == 't1' then started = state[i + 1]
    elseif state[i] == 'fn' then fn = state[i + 1]
    elseif state[i] == 'dq' then waiting = state[i + 1]
    elseif state[i] == 'la' then listed = state[i + 1]
    elseif state[i] == 'ot' then start_timeout = true
    elseif state[i] == 'ft' then finish_timeout = state[i + 1] end
  end
  tally(fn, 'r', 1)
  if not started then
    tally(fn, 'b', 1)
    if start_timeout then clear_timer('O' .. run) end
    if finish_timeout then set_timer('F' .. run, now + finish_timeout) end
    started = digits(now)
    call('HSET', skey, 't1', started)
    call('HSET', P .. 'run:' .. run, 's', 'Running', 't', started)
    relist_run(fn, run, listed, 'Scheduled', 'Running')
    if call('SMOVE', P .. 'rq:' .. fn, P .. 'rb:' .. fn, run) == 0 then call('SADD', P .. 'rb:' .. fn, run) end
    state[#state + 1] = 't1'
    state[#state + 1] = started
  end
  if waiting == id then call('HDEL', skey, 'dq') end
  local count = call('LLEN', P .. 'sk:' .. run)
  local stack = call('LRANGE', P .. 'sk:' .. run, 0, (planned_at or count) - 1)
  if planned_at == 0 then stack = {} end
  local payload = false
  if size <= inline_bytes then
    payload = #stack == count and call('HGETALL', P .. 'pl:' .. run) or payload_of(run, events, stack)
  end
  return {id, token, generation, item, state, stack, payload, count}
end

-- Leases fairly until every token has its item, nothing is ready or the script has worked long enough.
local MAX_VISITS = 64
local function lease_some(want)
  local leased = {}
  local tokens = want[2]
  local visits, at = 0, 1
  while at <= #tokens and visits < MAX_VISITS and call('EXISTS', P .. 'ready') == 1 do
    visits = visits + 1
    local id, stale = visit()
    if id then
      leased[at] = lease_item(id, want[1], tokens[at], want[3], want[4], stale)
      at = at + 1
    end
  end
  return leased
end
