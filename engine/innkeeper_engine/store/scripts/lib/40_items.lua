-- Queue items, i:<item>: r run, k kind (s start, d discovery, p planned step, f fetch), s step id, p partition,
-- o order, a attempt, g generation, x expiries, v checkpoints seen, st state (q queued, t timer, l leased),
-- tk token, ex executor, lm how long a lease lasts (ms), d sealed request of a fetch, c cancelled while leased.
-- ri:<run> holds what goes with the run: i<item>, w<pause>.

local function enqueue(id, partition, order, due)
  if due and due > now then
    call('HSET', P .. 'i:' .. id, 'st', 't', 'p', partition)
    set_timer('i' .. id, due)
  else
    call('HSET', P .. 'i:' .. id, 'st', 'q', 'p', partition)
    call('ZADD', P .. 'q:' .. partition, order, id)
    if not place_of('p' .. partition) then enter(partition) end
  end
end

local function new_item(id, run, kind, step, partition, order, due, sealed)
  call('HSET', P .. 'i:' .. id, 'r', run, 'k', kind, 's', step, 'o', order, 'a', 0, 'g', 0, 'x', 0, 'v', 0)
  if sealed then call('HSET', P .. 'i:' .. id, 'd', sealed) end
  call('SADD', P .. 'ri:' .. run, 'i' .. id)
  enqueue(id, partition, order, due)
end

-- Ends a lease: the slots come back, whoever waits for them is woken. The item itself is dropped or queued again.
local function end_lease(id, item)
  call('ZREM', P .. 'timers', 'L' .. id)
  call('SREM', P .. 'x:' .. item.ex, id)
  free_slots(item.p, id)
end

local function drop_item(id, run)
  call('DEL', P .. 'i:' .. id)
  call('SREM', P .. 'ri:' .. run, 'i' .. id)
end

-- Back to the queue after a lease. What has been leased once waits among the steps: only starts are throttled.
local function requeue(id, item, due)
  call('HDEL', P .. 'i:' .. id, 'tk', 'ex')
  local partition = call('HGET', P .. 'st:' .. item.r, 'sp') or item.p
  enqueue(id, partition, item.o, due)
end

-- Leases one item that a visit gave, to an executor, under its token.
local function lease_item(id, executor, token, lease_ms, inline_bytes)
  local ikey = P .. 'i:' .. id
  local item = call('HGETALL', ikey)
  local run, generation
  for i = 1, #item, 2 do
    if item[i] == 'r' then run = item[i + 1] elseif item[i] == 'g' then generation = item[i + 1] + 1 end
  end
  call('HSET', ikey, 'st', 'l', 'tk', token, 'ex', executor, 'g', generation, 'lm', lease_ms)
  call('SADD', P .. 'x:' .. executor, id)
  set_timer('L' .. id, now + lease_ms)
  local skey = P .. 'st:' .. run
  local state = call('HGETALL', skey)
  local size, started, waiting
  for i = 1, #state, 2 do
    if state[i] == 'sz' then size = tonumber(state[i + 1])
    elseif state[i] == 't1' then started = state[i + 1]
    elseif state[i] == 'dq' then waiting = state[i + 1] end
  end
  if not started then
    started = digits(now)
    call('HSET', skey, 't1', started)
    call('HSET', P .. 'run:' .. run, 's', 'Running', 't', started)
    state[#state + 1] = 't1'
    state[#state + 1] = started
  end
  if waiting == id then call('HDEL', skey, 'dq') end
  local payload = false
  if size <= inline_bytes then payload = call('HGETALL', P .. 'pl:' .. run) end
  return {id, token, generation, item, state, call('LRANGE', P .. 'sk:' .. run, 0, -1), payload}
end

-- Leases fairly until every token has its item, nothing is ready or the script has worked long enough.
local MAX_VISITS = 64
local function lease_some(want)
  local leased = {}
  local tokens = want[2]
  local visits, at = 0, 1
  while at <= #tokens and visits < MAX_VISITS and call('EXISTS', P .. 'ready') == 1 do
    visits = visits + 1
    local id = visit()
    if id then
      leased[at] = lease_item(id, want[1], tokens[at], want[3], want[4])
      at = at + 1
    end
  end
  return leased
end
