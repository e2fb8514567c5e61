-- What other versions leave behind heals here, a little at a time: each look is at a few, and none is at all of them.

local HEADS, MOST_HEADS = 8, 64

-- A list of runs that go on has one that does not, or that has begun: it moves to where it belongs.
local function list_again(fn, run, at, status)
  call('ZREM', status_list(status, fn), run)
  local about = call('HMGET', P .. 'run:' .. run, 's', 'e')
  if not about[1] or about[1] == status or not LISTED_AS[about[1]] then return end
  call('ZADD', status_list(about[1], fn), at, run)
  if about[1] ~= 'Running' and about[1] ~= 'Scheduled' then keep_list(about[2], fn, about[1]) end
end

-- Since when a run is due that has not begun; nil where it is not due yet, or not in that state any more. What an event
-- put off to a time ahead is due from then on.
local function due_since(fn, run, made)
  local state = call('HMGET', P .. 'st:' .. run, 'e', 't1', 'o', 'b')
  if not state[1] or state[2] then
    list_again(fn, run, made, 'Scheduled')
    return nil
  end
  local due = tonumber(call('ZSCORE', P .. 'timers', 'i' .. run .. '.0') or '0')
  local since = math.max(tonumber(made), due, tonumber(state[3]) + tonumber(state[4] or '0'))
  return since <= now and since or nil
end

-- Since when (ms) the oldest of the runs that have not begun is due, '' where none is. Those that are due later may stand
-- before it: where the first few are, it is the oldest of some that are spread over all.
local function oldest(fn)
  local key = status_list('Scheduled', fn)
  for _ = 1, MOST_HEADS / HEADS do
    local size, page = call('ZCARD', key), call('ZRANGE', key, 0, HEADS - 1, 'WITHSCORES')
    for i = 1, #page, 2 do
      local since = due_since(fn, page[i], page[i + 1])
      if since then return digits(since) end
    end
    if #page < 2 * HEADS then return '' end
    if call('ZCARD', key) == size then break end
  end
  local size = call('ZCARD', key)
  for n = 1, size > HEADS and HEADS or 0 do
    local rank = math.floor(HEADS - 1 + (size - HEADS) * n / HEADS)
    local some = call('ZRANGE', key, rank, rank, 'WITHSCORES')
    local since = some[1] and due_since(fn, some[1], some[2])
    if since then return digits(since) end
  end
  return ''
end

-- A function of which nothing was counted lately, and which has nothing to do. The last takes its environment along.
local function forget_function(env, slug)
  call('SREM', P .. 'mf:' .. env, slug)
  call('HDEL', P .. 'mi:' .. env, slug)
end

local function forget_environment(env)
  if call('EXISTS', P .. 'mf:' .. env, P .. 'dle:' .. env, P .. 'stuck:' .. env) == 0 then call('SREM', P .. 'me', env) end
end

-- How many items a function has, where it has no more runs than are counted at once; nil where it has.
local MOST_COUNTED = 64
local function items_of(fn)
  local begun, slots = P .. 'rb:' .. fn, P .. 's:c|' .. fn
  if call('SCARD', begun) > MOST_COUNTED or call('SCARD', slots) > MOST_COUNTED then return nil end
  -- What has not begun has one.
  local n = 0
  for _, run in ipairs(call('SMEMBERS', begun)) do
    if call('SCARD', P .. 'ri:' .. run) > MOST_COUNTED then return nil end
    for _, member in ipairs(call('SMEMBERS', P .. 'ri:' .. run)) do
      if string.sub(member, 1, 1) == 'i' then n = n + 1 end
    end
  end
  -- Leases of runs that have ended stay until their executors have stopped.
  for _, id in ipairs(call('SMEMBERS', slots)) do
    if call('HEXISTS', P .. 'i:' .. id, 'c') == 1 then n = n + 1 end
  end
  return n + call('SCARD', P .. 'rq:' .. fn)
end

-- What is counted of a function's items may have drifted: other versions do not count theirs.
local function count_items(fn)
  local slash = string.find(fn, '/', 1, true)
  local env, slug = string.sub(fn, 1, slash - 1), string.sub(fn, slash + 1)
  local counted, n = tonumber(call('HGET', P .. 'mi:' .. env, slug) or '0'), items_of(fn)
  if n and n ~= counted then
    if n == 0 then call('HDEL', P .. 'mi:' .. env, slug) else call('HSET', P .. 'mi:' .. env, slug, n) end
  end
end

-- Timers of replays are dropped by versions that know none. rpls: environments that have some. No more of them are
-- looked at than one script may.
local MOST_ENVIRONMENTS_REARMED = 200
local function rearm_replays()
  for n, env in ipairs(members(P .. 'rpls')) do
    if n > MOST_ENVIRONMENTS_REARMED then return end
    local listed = call('HKEYS', P .. 'rpl:' .. env)
    if not listed[1] then call('SREM', P .. 'rpls', env) end
    for _, id in ipairs(listed) do
      local timer = 'R' .. env .. '/' .. id
      if not call('ZSCORE', timers_with(timer), timer) then set_timer(timer, now) end
    end
  end
end
