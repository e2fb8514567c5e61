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
