-- Throttles, and who waits at limits.

local function set_tat(limit, tat)
  call('SET', P .. 'tat:' .. limit, string.format('%.17g', tat), 'PX', math.ceil(tat - now) + 86400000)
end

-- When a throttle has room again: GCRA with the cap written as "<emission ms>,<burst>".
-- Right after a start it is `burst` emissions from now at most. Where it is more, the starts were by an older cap, and
-- who comes now does not wait by its pace. That is written down, or it would be as far away at every later look.
-- A throttle is one function's own: another one's cap would not hold any more.
local function throttle_at(limit, cap)
  local emission, burst = string.match(cap, '^([^,]+),(.+)$')
  emission, burst = tonumber(emission), tonumber(burst)
  local tat = tonumber(call('GET', P .. 'tat:' .. limit) or '0')
  if tat > now + burst * emission then
    tat = now + burst * emission
    set_tat(limit, tat)
  end
  return tat - (burst - 1) * emission, tat, emission
end

-- wl:<limit>: waiting lanes by their oldest waiter; wn:<limit>\3<lane>: the lane's waiting nodes by age.
local function park(limit, lane, node)
  set_place(node, '@' .. limit)
  if node == 'l' .. lane then tally_shard('parked', 1) end
  local t = next_turn()
  call('ZADD', P .. 'wn:' .. limit .. '\3' .. lane, t, node)
  call('ZADD', P .. 'wl:' .. limit, 'NX', t, lane)
  call('SADD', P .. 'wd:' .. def_of(limit), limit)
  if not is_throttle(limit) then
    for _, other in ipairs(call('HKEYS', P .. 'wk:' .. limit)) do
      if other ~= lane then call('SADD', P .. 'ws:' .. other, limit) end
    end
  else
    local cap = call('HGET', P .. 'f:' .. fn_of(lane), def_of(limit))
    if cap then set_timer('T' .. limit, (throttle_at(limit, cap)), true) end
  end
end

-- Takes the lane's oldest waiter out of the limit's queue.
local function unpark_oldest(limit, lane)
  local key = P .. 'wn:' .. limit .. '\3' .. lane
  local node = call('ZPOPMIN', key)[1]
  if node == 'l' .. lane then tally_shard('parked', -1) end
  local next_oldest = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if next_oldest[1] then
    call('ZADD', P .. 'wl:' .. limit, next_oldest[2], lane)
  else
    call('ZREM', P .. 'wl:' .. limit, lane)
    if call('EXISTS', P .. 'wl:' .. limit) == 0 then call('SREM', P .. 'wd:' .. def_of(limit), limit) end
  end
  return node
end

local function release_node(lane, node)
  if node == 'l' .. lane then ready_lane(lane) else enter(string.sub(node, 2)) end
end

-- wk:<limit>: its live scouts by lane; ws:<lane>: the limits that have a scout in this lane while other lanes wait
-- there, or have come since. A throttle's waiters are all in one lane, and so are most other limits': they cost nothing.
local function wake_node(limit, lane, node, shared)
  call('HSET', P .. 'wk:' .. limit, lane, node)
  if shared then call('SADD', P .. 'ws:' .. lane, limit) end
  release_node(lane, node)
  call('HSET', P .. 'n:' .. node, 'k', limit)
end

-- Room may have come: wake, lane by lane (oldest first), one waiter on behalf of the limit, until one of them
-- sits in a lane that can be served now and takes turns. One live scout a limit: its visit settles again.
local function settle(limit)
  local waiting = call('ZRANGE', P .. 'wl:' .. limit, 0, -1)
  if #waiting == 0 then return end
  local throttle, retry_at = is_throttle(limit), nil
  local taken = not throttle and call('SCARD', P .. 's:' .. limit)
  for _, lane in ipairs(waiting) do
    local cap = call('HGET', P .. 'f:' .. fn_of(lane), def_of(limit))
    local room = true
    if cap then
      if throttle then
        local at = throttle_at(limit, cap)
        if now < at then
          room = false
          if not retry_at or at < retry_at then retry_at = at end
        end
      else
        room = taken < tonumber(cap)
      end
    end
    if room then
      if call('HEXISTS', P .. 'wk:' .. limit, lane) == 0 then
        wake_node(limit, lane, unpark_oldest(limit, lane), not throttle and #waiting > 1)
      end
      -- Where turns go by age, the scout's may be behind many.
      if place_of('l' .. lane) == 'r' and not has_priority(lane) then break end
    end
  end
  if retry_at then set_timer('T' .. limit, retry_at) end
end
