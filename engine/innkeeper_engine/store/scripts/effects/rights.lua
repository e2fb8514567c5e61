-- Rights to begin. Whether one is refused is asked of all before any is taken: `refused` gives nothing away. `take` may
-- add to the fields of the run's state. once: 2 key, 3 period ms, 4 note, 5 reply; rate: 2 key, 3 limit, 4 period ms,
-- 5 note, 6 reply; single: 2 key, 3 note, 4 reply, 5 two ids for the end of who holds it or '', 6 note of that end.
local rights = {once = {note = 4, reply = 5}, rate = {note = 5, reply = 6}, single = {note = 3, reply = 4}}

rights.once.refused = function(r) return call('EXISTS', P .. 'once:' .. r[2]) == 1 end
rights.once.take = function(r, run) call('SET', P .. 'once:' .. r[2], run, 'PX', r[3]) end

-- rl:<key> lists when runs started, "<ms> <how many>", rn:<key> is how many that are. Beyond EXACT of them in a period,
-- times are rounded up to a thousandth of it: nothing is counted for too short, and no list is longer.
local EXACT = 1000
local TIME = '^(%S+) (%d+)$'
-- Mostly few of them are over; one that was not used for long reads all of its log.
local PAGE = 64

rights.rate.refused = function(r)
  local log, count = P .. 'rl:' .. r[2], P .. 'rn:' .. r[2]
  local over, starts, before = 0, 0, now - r[4]
  repeat
    local page, found = call('LRANGE', log, over, over + PAGE - 1), over
    for _, entry in ipairs(page) do
      local at, n = string.match(entry, TIME)
      if tonumber(at) > before then break end
      over, starts = over + 1, starts + n
    end
  until over < found + PAGE
  if over > 0 then
    call('LTRIM', log, over, -1)
    call('DECRBY', count, starts)
  end
  return tonumber(call('GET', count) or '0') >= r[3]
end

rights.rate.take = function(r)
  local log, count = P .. 'rl:' .. r[2], P .. 'rn:' .. r[2]
  local at = now
  if r[3] > EXACT then at = math.ceil(now * EXACT / r[4]) * r[4] / EXACT end
  local last_at, n = string.match(call('LINDEX', log, -1) or '', TIME)
  if last_at and tonumber(last_at) == at then
    call('LSET', log, -1, last_at .. ' ' .. n + 1)
  else
    call('RPUSH', log, string.format('%.17g 1', at))
  end
  call('INCR', count)
  local until_ms = math.ceil(at + r[4] - now)
  call('PEXPIRE', log, until_ms)
  call('PEXPIRE', count, until_ms)
end

-- Whoever holds it frees it with the end of its run; nobody holds it for a run that has ended otherwise.
rights.single.refused = function(r)
  if r[5][1] ~= '' then return false end
  local holder = call('GET', P .. 'sg:' .. r[2])
  return holder and is_live(holder)
end

rights.single.take = function(r, run, fields)
  local holder = call('GET', P .. 'sg:' .. r[2])
  if holder and end_run(holder, 'Cancelled', {ids = r[5]}) and r[6] ~= '' then note(holder, r[6]) end
  call('SET', P .. 'sg:' .. r[2], run)
  fields[#fields + 1] = 'sg'
  fields[#fields + 1] = r[2]
end

effects.rights = rights
