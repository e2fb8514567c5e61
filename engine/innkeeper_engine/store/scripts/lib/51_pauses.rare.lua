local function remove_pause(id, pause)
  call('DEL', P .. 'w:' .. id)
  call('SREM', P .. 'ri:' .. pause.r, 'w' .. id)
  call('ZREM', P .. 'timers', 'w' .. id)
  if pause.k == 'signal' then
    call('DEL', P .. 'sig:' .. pause.e .. ':' .. pause.n)
  elseif pause.i then
    local index = P .. 'wi:' .. pause.i
    call('ZREM', index, id)
    local paths = P .. 'wp:' .. pause.e .. ':' .. pause.n
    if call('HINCRBY', paths, pause.pa, -1) <= 0 then call('HDEL', paths, pause.pa) end
  end
end

-- A wait is over. Straight into the run's history: nobody else tells of it, and it takes no note's way, as `by` says.
local function tell_end(run, step)
  call('RPUSH', P .. 'h:' .. run, '{"t":' .. digits(now) .. ',"type":"step","id":' .. cjson.encode(step)
    .. ',"status":"Completed","by":"script"}')
end

-- First wins: event, reply, deadline and cancellation all come through here.
local function resolve(id, data)
  local pause = hash(P .. 'w:' .. id)
  if not pause.r then return false end
  remove_pause(id, pause)
  if not is_live(pause.r) then return false end
  if record(pause.r, pause.s, data) then tell_end(pause.r, pause.s) end
  go_on(pause.r, pause.s)
  return true
end
