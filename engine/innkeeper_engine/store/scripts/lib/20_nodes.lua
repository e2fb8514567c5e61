-- The scheduler's nodes. A lane is a function's starts or its steps; a partition is a lane plus the evaluated keys
-- of its limits. A node, l<lane> or p<partition>, that is not idle has a hash n:<node> with its place `w` (r ready,
-- h held, @<limit> parked) and, while it scouts for a limit that woke it, that limit in `k`.
--
--   lane      = <fn> \1 s|t<signature> [\1 <limit>]*     s starts, t steps; the limits are those with constant keys
--   partition = <lane> [\2 <limit>]*                     keyed limits
--   limit     = <def>|<value>                            def names the cap in the function's hash; t... is a throttle
--
-- Every function has two limits of its own without being told: c|<fn> (concurrency) and, on starts, t|<fn>.
-- The signature says which keys the function had when the lane was named, `sig` in its hash which it has now (nothing
-- where it has none). A lane with another one is stale: what comes out of it is keyed again, not called.
-- It begins with p where the function's runs have priorities: there turns go by the order of the first items.

local function split(text, sep)
  local parts, from = {}, 1
  while true do
    local at = string.find(text, sep, from, true)
    if not at then parts[#parts + 1] = string.sub(text, from); return parts end
    parts[#parts + 1] = string.sub(text, from, at - 1)
    from = at + 1
  end
end

local function lane_of(partition)
  local at = string.find(partition, '\2', 1, true)
  return at and string.sub(partition, 1, at - 1) or partition
end

local function fn_of(lane) return string.sub(lane, 1, string.find(lane, '\1', 1, true) - 1) end

local function sig_of(lane)
  local at = string.find(lane, '\1', 1, true) + 2
  local to = string.find(lane, '\1', at, true)
  return string.sub(lane, at, to and to - 1)
end

-- `held`, in the function's hash, says which of its lanes are paused: s, t or st ('1' of an older version: both).
local function is_held(held, lane)
  if not held then return false end
  local at = string.find(lane, '\1', 1, true)
  return held == '1' or string.find(held, string.sub(lane, at + 1, at + 1), 1, true) ~= nil
end

local function lane_limits(lane)
  local parts = split(lane, '\1')
  local limits = {'c|' .. parts[1]}
  if string.byte(parts[2]) == 115 then limits[2] = 't|' .. parts[1] end -- 's'
  for i = 3, #parts do limits[#limits + 1] = parts[i] end
  return limits
end

local function partition_limits(partition)
  local parts = split(partition, '\2')
  table.remove(parts, 1)
  return parts
end

local function def_of(limit) return string.sub(limit, 1, string.find(limit, '|', 1, true) - 1) end
local function is_throttle(limit) return string.byte(limit) == 116 end -- 't'

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

-- The first limit without room, or nil. A shared counter has several caps: each function looks at its own, `caps`.
local function blocked(caps, limits)
  for _, limit in ipairs(limits) do
    local cap = caps[def_of(limit)]
    if cap then
      if is_throttle(limit) then
        if now < throttle_at(limit, cap) then return limit end
      elseif call('SCARD', P .. 's:' .. limit) >= tonumber(cap) then
        return limit
      end
    end
  end
end

local function place_of(node) return call('HGET', P .. 'n:' .. node, 'w') end
local function set_place(node, place) call('HSET', P .. 'n:' .. node, 'w', place) end
local function set_idle(node) call('DEL', P .. 'n:' .. node) end

local function ready_lane(lane)
  set_place('l' .. lane, 'r')
  call('ZADD', P .. 'ready', next_turn(), lane)
end

local function has_priority(lane)
  return string.byte(lane, string.find(lane, '\1', 1, true) + 2) == 112 -- 'p'
end

-- When it is a partition's turn in its lane's ring. With priorities turns go as the items themselves do, by their time
-- less their priority: whoever has a steady supply of boosted ones takes turns only from those who are less old.
local function turn_of(lane, partition)
  local first = has_priority(lane) and call('ZRANGE', P .. 'q:' .. partition, 0, 0, 'WITHSCORES')
  return first and first[2] or next_turn()
end

local function enter(partition)
  local lane = lane_of(partition)
  set_place('p' .. partition, 'r')
  call('ZADD', P .. 'lr:' .. lane, turn_of(lane, partition), partition)
  if not place_of('l' .. lane) then ready_lane(lane) end
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

-- The limit that had woken this node, which ends here.
local function unscout(lane, node)
  local limit = call('HGET', P .. 'n:' .. node, 'k')
  if not limit then return nil end
  call('HDEL', P .. 'n:' .. node, 'k')
  call('HDEL', P .. 'wk:' .. limit, lane)
  call('SREM', P .. 'ws:' .. lane, limit)
  return limit
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

local function settle_all(limits)
  local seen = {}
  for _, limit in ipairs(limits) do
    if not seen[limit] then
      seen[limit] = true
      settle(limit)
    end
  end
end

-- Every limit that counts while an item of this partition is leased.
local function all_limits(partition)
  local limits = lane_limits(lane_of(partition))
  for _, limit in ipairs(partition_limits(partition)) do limits[#limits + 1] = limit end
  return limits
end

local function take_slots(caps, limits, item)
  for _, limit in ipairs(limits) do
    if is_throttle(limit) then
      local cap = caps[def_of(limit)]
      if cap then
        local _, tat, emission = throttle_at(limit, cap)
        set_tat(limit, math.max(now, tat) + emission)
      end
    else
      call('SADD', P .. 's:' .. limit, item)
    end
  end
end

local function free_slots(partition, item)
  local limits = {}
  for _, limit in ipairs(all_limits(partition)) do
    if not is_throttle(limit) then
      call('SREM', P .. 's:' .. limit, item)
      limits[#limits + 1] = limit
    end
  end
  settle_all(limits)
end

-- The only thing that takes a node out of ready. Returns the item to lease, or nil, and whether the lane is stale:
-- its limits are not those of the function any more, so none is looked at and none counts.
local function visit()
  local lane = call('ZPOPMIN', P .. 'ready')[1]
  local fn = fn_of(lane)
  local caps = hash(P .. 'f:' .. fn)
  local node = 'l' .. lane
  local settled, leased = {unscout(lane, node)}, nil
  local ring = P .. 'lr:' .. lane
  local left_blocked = false
  local stale = sig_of(lane) ~= (caps.sig or '')
  local partition = call('ZRANGE', ring, 0, 0)[1]
  if is_held(caps.held, lane) then
    set_place(node, 'h')
    call('SADD', P .. 'hl:' .. fn, lane)
    left_blocked = true
  elseif not partition then
    set_idle(node)
  else
    local limit = not stale and blocked(caps, lane_limits(lane))
    if limit then
      park(limit, lane, node)
      left_blocked = true
    else
      call('ZREM', ring, partition)
      local inner, queue = 'p' .. partition, P .. 'q:' .. partition
      settled[#settled + 1] = unscout(lane, inner)
      local keyed = not stale and partition_limits(partition)
      limit = keyed and #keyed > 0 and call('EXISTS', queue) == 1 and blocked(caps, keyed)
      if limit then
        park(limit, lane, inner)
      else
        leased = call('ZPOPMIN', queue)[1]
        if leased and not stale then take_slots(caps, all_limits(partition), leased) end
        if leased and call('EXISTS', queue) == 1 then
          call('ZADD', ring, turn_of(lane, partition), partition)
        else
          set_idle(inner)
        end
      end
      if call('EXISTS', ring) == 1 then
        call('ZADD', P .. 'ready', next_turn(), lane)
      else
        set_idle(node)
      end
    end
  end
  if left_blocked then
    -- Scouts inside a lane that leaves the ring would be lost to the other lanes that wait for the same limits.
    for _, limit in ipairs(members(P .. 'ws:' .. lane)) do settled[#settled + 1] = limit end
  end
  settle_all(settled)
  return leased, stale
end
