-- shed: takes payloads, history and events from up to `n` ended runs; of the environments with most of them the oldest
-- first. Events stay for as long as a repeated send must find them, and while another run of theirs goes on.
-- Reply: {runs, notes that went with them, whether memory is still short}. lost: how many of both in all.
local PAGE = 64
local left, runs, notes = request.n, 0, 0

local function shed_event(env, id)
  local key = P .. 'ev:' .. env .. ':' .. id
  local left_s = call('TTL', key)
  -- One that is not routed yet, or is gathered, has no expiry or a later one.
  if left_s < 0 or left_s > events_keep_s(env) - SHORTEST_EVENTS_S then return end
  if call('EXISTS', P .. 'el:' .. env .. ':' .. id) == 0 then call('UNLINK', key) end
end

local function shed_run(env, run)
  local summary = P .. 'run:' .. run
  local events = call('HGET', summary, 'ev')
  if not events then return end
  for id in string.gmatch(events, '%S+') do shed_event(env, id) end
  local lost = call('LLEN', P .. 'h:' .. run)
  -- Whoever asks for the run is told.
  call('HINCRBY', summary, 'nl', lost)
  call('UNLINK', P .. 'pl:' .. run, P .. 'h:' .. run)
  runs, notes = runs + 1, notes + lost
end

while left > 0 do
  local env = call('ZREVRANGE', P .. 'kept', 0, 0)[1]
  if not env then break end
  local at = tonumber(call('HGET', P .. 'shed', env) or '0')
  local page = call('ZRANGE', P .. 'ended:' .. env, at, at + math.min(left, PAGE) - 1)
  for _, run in ipairs(page) do shed_run(env, run) end
  keep_less(env, at, #page)
  if page[1] then call('HINCRBY', P .. 'shed', env, #page) end
  left = left - math.max(1, #page)
end
if runs > 0 then
  call('HINCRBY', P .. 'lost', 'runs', runs)
  call('HINCRBY', P .. 'lost', 'notes', notes)
end
local is_short = fullness(true) >= SHED_UNTIL
close_shard()
return {runs, notes, is_short and 1 or 0}
