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
