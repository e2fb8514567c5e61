-- watch: a page of a round through all runs that go on, in search of those that have nothing to go on by: no item that is
-- queued, leased or due, no pause, no timeout. Only damage makes them; nobody else would ever notice. stuck:<env> holds
-- them with the time (ms) at which they were found. The timer K says when the next page is due; the list `watching` holds
-- what is left of the round, e<env>, q<fn>, b<fn>, and `watched` the cursor in its head. With request.arm only the timer
-- is set, where it is not.
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
    local page = call('SSCAN', P .. 'ri:' .. run, cursor, 'COUNT', 32)
    for _, member in ipairs(page[2]) do
      if goes_on_by(member) then return false end
    end
    cursor = page[1]
    left = left - 1
  until cursor == '0'
  return true
end

local function state_of_run(run) return call('HMGET', P .. 'st:' .. run, 'e', 'fn', 't1') end

local found = {}
local function look_at(run)
  left = left - 1
  local state = state_of_run(run)
  if not state[1] or not is_stuck(run, state) then return end
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

local function look_at_page(key)
  local page = call('SSCAN', key, call('GET', at) or '0', 'COUNT', 100)
  table.sort(page[2])
  for _, run in ipairs(page[2]) do look_at(run) end
  left = left - 1
  if page[1] ~= '0' then call('SET', at, page[1]) else
    call('DEL', at)
    call('LPOP', list)
  end
end

if call('EXISTS', list) == 0 then
  for _, env in ipairs(members(P .. 'me')) do call('RPUSH', list, 'e' .. env) end
end
repeat
  local head = call('LINDEX', list, 0)
  if not head then break end
  local kind, name = string.sub(head, 1, 1), string.sub(head, 2)
  if kind == 'e' then
    call('LPOP', list)
    look_again_at(name)
    for _, slug in ipairs(members(P .. 'mf:' .. name)) do
      call('RPUSH', list, 'q' .. name .. '/' .. slug, 'b' .. name .. '/' .. slug)
    end
  else
    look_at_page(P .. 'r' .. kind .. ':' .. name)
  end
until left <= 0
set_timer('K', now + (call('EXISTS', list) == 1 and PAGE_MS or ROUND_MS))
close_shard()
return found
