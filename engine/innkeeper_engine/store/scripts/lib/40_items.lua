-- Queue items, i:<item>: r run, k kind (s start, d discovery, p planned step, f fetch), s step id, p partition,
-- o order (priority taken off), b priority in ms where it is not 0, a attempt, g generation, x expiries, v checkpoints
-- seen, st state (q queued, t timer, l leased), rk the token of a lease that is only to key it again,
-- sl completed steps when it was planned, tk token, ex executor, lm how long a lease lasts (ms), d sealed request of a
-- fetch, c cancelled while leased.
-- ri:<run> holds what goes with the run: i<item>, w<pause>.

local function queue_up(id, partition, order, due)
  if due and due > now then return set_timer('i' .. id, due) end
  call('ZADD', P .. 'q:' .. partition, order, id)
  local place = place_of('p' .. partition)
  if not place then return enter(partition) end
  local lane = lane_of(partition)
  if place == 'r' and has_priority(lane) then
    -- Where it is the first now, the partition's turn may come sooner, never later.
    call('ZADD', P .. 'lr:' .. lane, 'LT', order, partition)
  end
end

local function state_of(due) return due and due > now and 't' or 'q' end

local function enqueue(id, partition, order, due)
  call('HSET', P .. 'i:' .. id, 'st', state_of(due), 'p', partition, 'o', order)
  queue_up(id, partition, order, due)
end

-- boost: the run's priority in ms, or nil.
local function new_item(id, run, kind, step, partition, order, due, sealed, boost)
  local fields = {'r', run, 'k', kind, 's', step, 'o', order, 'a', 0, 'g', 0, 'x', 0, 'v', 0, 'st', state_of(due),
    'p', partition}
  if sealed then
    fields[#fields + 1] = 'd'
    fields[#fields + 1] = sealed
  end
  if boost and tonumber(boost) ~= 0 then
    fields[#fields + 1] = 'b'
    fields[#fields + 1] = boost
  end
  call('HSET', P .. 'i:' .. id, unpack(fields))
  call('SADD', P .. 'ri:' .. run, 'i' .. id)
  local fn = fn_of(partition)
  tally(fn, 'i', 1)
  tally(fn, 'q', 1)
  queue_up(id, partition, order, due)
end

-- Whether the lease is only to key the item again. A version that knows of no such leases leaves `rk` where it is, and
-- what it leases then is leased as always.
local function is_to_key(item) return item.rk and item.rk == item.tk end

-- How a request has ended, as it is counted.
local SUCCESS, ERRORED, FAILED = '0', '1', '2'
local OUTCOMES = {success = SUCCESS, errored = ERRORED, failed = FAILED}

-- Ends a lease: the slots come back, whoever waits for them is woken. The item itself is dropped or queued again.
local function end_lease(id, item, outcome)
  tally_shard('leases', -1)
  call('ZREM', P .. 'timers', 'L' .. id)
  call('SREM', P .. 'x:' .. item.ex, id)
  -- What was leased to be keyed again has none.
  if is_to_key(item) then return end
  tally(fn_of(item.p), outcome, 1)
  free_slots(item.p, id)
end

local function drop_item(id, run, partition)
  tally(fn_of(partition), 'i', -1)
  call('DEL', P .. 'i:' .. id)
  call('SREM', P .. 'ri:' .. run, 'i' .. id)
end

-- Out of an executor's hands, into a partition.
local function put_back(id, partition, order, boost, due)
  call('HDEL', P .. 'i:' .. id, 'tk', 'ex', 'rk', 'b')
  if boost and tonumber(boost) ~= 0 then call('HSET', P .. 'i:' .. id, 'b', boost) end
  enqueue(id, partition, order, due)
end

-- Back to the queue after a lease. What has been called once waits among the steps: only starts are throttled. What was
-- leased to be keyed again, and was not, is where it was.
local function requeue(id, item, due)
  if is_to_key(item) then return put_back(id, item.p, item.o, item.b, due) end
  tally(fn_of(item.p), 'q', 1)
  local state = call('HMGET', P .. 'st:' .. item.r, 'sp', 'o', 'b')
  if not state[1] then return put_back(id, item.p, item.o, item.b, due) end
  put_back(id, state[1], state[2], state[3], due)
end

-- The events and some of the results of a run, flat. A planned step is asked for with what there was when it was
-- planned: with all that its siblings have brought since, a group of n steps would cost n * n. A call in Lua has 8,000
-- arguments at most.
local FIELDS_AT_ONCE = 1000
local function payload_of(run, events, stack)
  local fields, flat = {}, {}
  for n = 0, events - 1 do fields[#fields + 1] = 'e:' .. n end
  for _, step in ipairs(stack) do fields[#fields + 1] = step end
  for first = 1, #fields, FIELDS_AT_ONCE do
    local last = math.min(first + FIELDS_AT_ONCE - 1, #fields)
    local values = call('HMGET', P .. 'pl:' .. run, unpack(fields, first, last))
    for n = first, last do
      local value = values[n - first + 1]
      if value then
        flat[#flat + 1] = fields[n]
        flat[#flat + 1] = value
      end
    end
  end
  return flat
end

-- What is leased to be keyed again is not called: its run has not begun by this, who asked for it still waits for the
-- call, and the first event is all that keys are made of.
local function lease_to_key(id, token, generation, item, state, run, inline_bytes)
  call('HSET', P .. 'i:' .. id, 'rk', token)
  item[#item + 1] = 'rk'
  item[#item + 1] = token
  local payload = false
  if call('HSTRLEN', P .. 'pl:' .. run, 'e:0') <= inline_bytes then
    payload = payload_of(run, 1, {})
    if payload[2] and raw_length(payload[2]) > inline_bytes then payload = false end
  end
  return {id, token, generation, item, state, {}, payload, call('LLEN', P .. 'sk:' .. run)}
end

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
  tally_shard('leases', 1)
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
