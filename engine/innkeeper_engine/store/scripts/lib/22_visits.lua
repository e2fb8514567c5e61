-- A visit takes the next that is ready, and one of its items.

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

-- The limit that had woken this node, which ends here.
local function unscout(lane, node)
  local limit = call('HGET', P .. 'n:' .. node, 'k')
  if not limit then return nil end
  call('HDEL', P .. 'n:' .. node, 'k')
  call('HDEL', P .. 'wk:' .. limit, lane)
  call('SREM', P .. 'ws:' .. lane, limit)
  return limit
end

local function settle_all(limits)
  local seen = {}
  for _, limit in ipairs(limits) do
    if not seen[limit] then
      seen[limit] = true
      if call('EXISTS', P .. 'wl:' .. limit) == 1 then settle(limit) end
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
