-- Timeouts of runs, in st:<run>: ot, the timer O<run> is set (timeouts.start: from when the run is due to its first
-- lease); ft, how many ms the timer F<run> is set for then (timeouts.finish); ti, two ids for what the end emits; od, the
-- second has passed while a call was in flight. Such a run begins nothing more: it may only end by itself.
-- Items leased at that time have an `od` as well: whatever else becomes of their leases ends the run.

local function time_out(run, which, current)
  local ids = call('HGET', P .. 'st:' .. run, 'ti')
  if not ids then return end
  end_run(run, 'Cancelled', {ids = split(ids, ' ')}, current)
  note(run, '{"t":' .. digits(now) .. ',"type":"cancelled","why":"timeout","timeout":"' .. which .. '"}')
end

local function start_is_late(run)
  if call('HEXISTS', P .. 'st:' .. run, 't1') == 0 then time_out(run, 'start') end
end

local function finish_is_late(run)
  if not is_live(run) then return end
  local in_flight = stop_run(run, nil, true)
  if #in_flight == 0 then return time_out(run, 'finish') end
  call('HSET', P .. 'st:' .. run, 'od', 1)
  for _, id in ipairs(in_flight) do call('HSET', P .. 'i:' .. id, 'od', 1) end
end

-- A lease has ended without an answer: its item is asked for again, unless its run goes on no more.
local function give_back(id, item, has_expired)
  if item.od then time_out(item.r, 'finish', id) end
  if item.c or not is_live(item.r) then return drop_item(id, item.r, item.p) end
  -- Nobody was asked by a lease that was for keying again.
  if has_expired and not is_to_key(item) then call('HINCRBY', P .. 'i:' .. id, 'x', 1) end
  requeue(id, item)
end
