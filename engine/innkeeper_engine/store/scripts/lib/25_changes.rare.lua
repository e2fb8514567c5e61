-- A function's cap has changed or gone, or its keys have: who waits at limits of that name is looked at again. So many
-- may wait that one script looks at request.nodes of them at most; the list `again` holds what is left, <fn> \2 <def> \2
-- <where in wd:<def>>, and every `due` goes on with it. Looking twice does no harm.
local to_look_at = request.nodes
local LIMITS_AT_ONCE = 100

-- Nobody will ever release what these nodes wait for; with a signature, those that wait under another one have no need
-- to wait. False where there are more of them.
local function let_out(limit, fn, sig)
  for _, lane in ipairs(call('ZRANGE', P .. 'wl:' .. limit, 0, -1)) do
    if fn_of(lane) == fn and not (sig and sig_of(lane) == sig) then
      while call('EXISTS', P .. 'wn:' .. limit .. '\3' .. lane) == 1 do
        if to_look_at <= 0 then return false end
        to_look_at = to_look_at - 1
        release_node(lane, unpark_oldest(limit, lane))
      end
    end
  end
  return true
end

-- Where in wd:<def> to go on, or nil at the end. Cap and signature are as they are now, whatever they were when this
-- began.
local function look_again(fn, def, cursor)
  local now_is = call('HMGET', P .. 'f:' .. fn, def, 'sig')
  local has_cap, sig = now_is[1], now_is[2] or ''
  repeat
    if to_look_at <= 0 then return cursor end
    local page
    if def == 'c' or def == 't' then
      -- The limits that every function has by itself: nobody else waits there.
      page = {'0', {def .. '|' .. fn}}
    else
      -- What waits all the while is found, whoever comes and goes meanwhile.
      page = call('SSCAN', P .. 'wd:' .. def, cursor, 'COUNT', LIMITS_AT_ONCE)
      table.sort(page[2])
    end
    for _, limit in ipairs(page[2]) do
      if not let_out(limit, fn, has_cap and sig) then return cursor end
      if has_cap then settle(limit) end
    end
    to_look_at = to_look_at - #page[2]
    cursor = page[1]
  until cursor == '0'
end

local function cap_changed(fn, def)
  local cursor = look_again(fn, def, '0')
  if cursor then call('RPUSH', P .. 'again', fn .. '\2' .. def .. '\2' .. cursor) end
end

local function go_on_looking()
  while to_look_at > 0 do
    local job = call('LPOP', P .. 'again')
    if not job then return end
    local parts = split(job, '\2')
    local cursor = look_again(parts[1], parts[2], parts[3])
    if cursor then call('LPUSH', P .. 'again', parts[1] .. '\2' .. parts[2] .. '\2' .. cursor) end
  end
  if call('EXISTS', P .. 'again') == 1 then wake_wanted = true end
end
