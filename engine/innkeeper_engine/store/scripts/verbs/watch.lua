-- watch: a page of a round through all runs that go on, in search of those that have nothing to go on by: no item that is
-- queued, leased or due, no pause, no timeout. Only damage makes them; nobody else would ever notice. stuck:<env> holds
-- them with the time (ms) at which they were found. The timer K says when the next page is due; the list `watching` holds
-- what is left of the round, and `watched` the cursor in its head where that is q<fn> or b<fn>: runs of a function that
-- have not begun, and that have. v<cursor> are environments that have had an app, m<cursor> those that things are
-- counted of, e<env> one of them, f<cursor> <env> its functions, l<cursor> those that have lists of events. What nobody needs any more, and what other versions leave
-- behind, goes on the way. With request.arm only the timer is set, where it is not.
-- Reply: runs that were found now, {env, fn, run}.
local ROUND_MS, PAGE_MS, FIRST_MS = 600000, 100, 10000
local LOOKED_AT, MOST_STUCK = 200, 1000
local list, at = P .. 'watching', P .. 'watched'
local left = LOOKED_AT

if request.arm then
  if not call('ZSCORE', timers_with('K'), 'K') then set_timer('K', now + FIRST_MS) end
  close_shard()
  return {}
end

local function goes_on_by(member)
  local tag, id = string.sub(member, 1, 1), string.sub(member, 2)
  if tag == 'w' then
    local kind = call('HGET', P .. 'w:' .. id, 'k')
    return kind and kind ~= 'cancel'
  end
  local item = call('HMGET', P .. 'i:' .. id, 'st', 'p')
  if item[1] == 'q' then return call('ZSCORE', P .. 'q:' .. item[2], id) end
  return item[1] and call('ZSCORE', P .. 'timers', (item[1] == 'l' and 'L' or 'i') .. id)
end

local function is_stuck(run, state)
  local timer = not state[3] and 'O' or 'F'
  if call('ZSCORE', timers_with(timer), timer .. run) then return false end
  local cursor = '0'
  repeat
    left = left - 1
    local page = call('SSCAN', P .. 'ri:' .. run, cursor, 'COUNT', 32)
    for _, member in ipairs(page[2]) do
      if goes_on_by(member) then return false end
    end
    cursor = page[1]
  until cursor == '0'
  return true
end

local function state_of_run(run) return call('HMGET', P .. 'st:' .. run, 'e', 'fn', 't1') end

local found = {}
local function look_at(run, key)
  left = left - 1
  local state = state_of_run(run)
  -- A version without this index has ended it.
  if not state[1] then return call('SREM', key, run) end
  if not is_stuck(run, state) then return end
  local stuck = P .. 'stuck:' .. state[1]
  if call('HLEN', stuck) >= MOST_STUCK or call('HSETNX', stuck, run, digits(now)) == 0 then return end
  note(run, '{"t":' .. digits(now) .. ',"type":"stuck"}')
  found[#found + 1] = {state[1], state[2], run}
end

-- Those that were found before may go on, or have ended.
local function look_again_at(env)
  for _, run in ipairs(call('HKEYS', P .. 'stuck:' .. env)) do
    left = left - 1
    local state = state_of_run(run)
    if not state[1] or not is_stuck(run, state) then call('HDEL', P .. 'stuck:' .. env, run) end
  end
end

-- The head of lists too, where what other versions have ended comes to stand.
local function heal_lists(fn)
  for _, status in ipairs({'Scheduled', 'Running'}) do
    local some = call('ZRANGE', status_list(status, fn), 0, HEADS - 1, 'WITHSCORES')
    for i = 1, #some, 2 do
      if not is_live(some[i]) then list_again(fn, some[i], some[i + 1], status) end
    end
    left = left - #some / 2
  end
end

local function look_at_page(kind, fn)
  local key, cursor = P .. 'r' .. kind .. ':' .. fn, call('GET', at) or '0'
  if kind == 'b' and cursor == '0' then
    heal_lists(fn)
    count_items(fn)
  end
  local page = call('SSCAN', key, cursor, 'COUNT', 100)
  table.sort(page[2])
  for _, run in ipairs(page[2]) do look_at(run, key) end
  left = left - 1
  if page[1] ~= '0' then call('SET', at, page[1]) else
    call('DEL', at)
    call('LPOP', list)
  end
end

-- Some of a set, and what stands for the rest of it, before all else that is left.
local function next_of(key, cursor, rest)
  local page = call('SSCAN', key, cursor, 'COUNT', 50)
  table.sort(page[2])
  left = left - 1 - #page[2]
  if page[1] ~= '0' then call('LPUSH', list, rest(page[1])) end
  return page[2]
end

local function look_at_registered(cursor)
  for _, env in ipairs(next_of(P .. 'envs', cursor, function(next_one) return 'v' .. next_one end)) do
    -- While it has an app, runs or events, somebody may look for it: the operator, an export.
    if call('EXISTS', P .. 'reg:' .. env, P .. 'runs:' .. env, P .. 'ended:' .. env, P .. 'ei:' .. env) == 0 then
      call('SREM', P .. 'envs', env)
    end
  end
end

local function look_at_functions(cursor, env)
  local day = math.floor(now / DAY_MS)
  local is_idle = call('EXISTS', P .. 'm:' .. env .. ':' .. day, P .. 'm:' .. env .. ':' .. day - 1) == 0
  for _, slug in ipairs(next_of(P .. 'mf:' .. env, cursor, function(next_one) return 'f' .. next_one .. ' ' .. env end)) do
    local fn = env .. '/' .. slug
    if is_idle and call('EXISTS', P .. 'rq:' .. fn, P .. 'rb:' .. fn) == 0 then
      forget_function(env, slug)
    else
      call('LPUSH', list, 'b' .. fn, 'q' .. fn)
    end
  end
  if is_idle then forget_environment(env) end
end

-- The list of an environment that no events come for goes by its expiry.
local function look_at_listed(cursor)
  local page = call('ZSCAN', P .. 'eis', cursor, 'COUNT', 50)
  left = left - 1 - #page[2] / 2
  if page[1] ~= '0' then call('LPUSH', list, 'l' .. page[1]) end
  for i = 1, #page[2], 2 do
    local env = page[2][i]
    if call('EXISTS', P .. 'ei:' .. env) == 0 then
      call('ZREM', P .. 'eis', env)
      call('HDEL', P .. 'eiat', env)
    end
  end
end

if call('EXISTS', list) == 0 then
  call('RPUSH', list, 'v0', 'm0', 'l0')
  rearm_replays()
end
repeat
  local head = call('LINDEX', list, 0)
  if not head then break end
  local kind, name = string.sub(head, 1, 1), string.sub(head, 2)
  if kind == 'q' or kind == 'b' then
    look_at_page(kind, name)
  else
    call('LPOP', list)
    if kind == 'v' then
      look_at_registered(name)
    elseif kind == 'm' then
      local some = next_of(P .. 'me', name, function(next_one) return 'm' .. next_one end)
      for _, env in ipairs(some) do call('LPUSH', list, 'e' .. env) end
    elseif kind == 'e' then
      look_again_at(name)
      look_at_functions('0', name)
    elseif kind == 'f' then
      look_at_functions(string.match(name, '^(%d+) (.*)$'))
    elseif kind == 'l' then
      look_at_listed(name)
    end
  end
until left <= 0
set_timer('K', now + (call('EXISTS', list) == 1 and PAGE_MS or ROUND_MS))
close_shard()
return found
