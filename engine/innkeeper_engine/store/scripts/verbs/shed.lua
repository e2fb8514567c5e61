-- shed: where memory is short, takes payloads, history and events from up to `n` ended runs; of the environments with most
-- of them the oldest first. Events stay for as long as a repeated send must find them, and while another run of theirs
-- goes on or a gathering holds them.
-- Whoever else does the same has its part in what is taken: each script looks how much is still too much, takes no more
-- than that, and works only so long.
-- Reply: {runs, notes that went with them, whether memory is still short}. lost: how many of both in all.
local PAGE = 64
-- Calls of one script, about: what a run takes, and each event of it.
local CALLS_AT_ONCE, CALLS_A_RUN, CALLS_AN_EVENT = 2000, 8, 6
-- What goes is freed a little later, or less than was thought: after so many runs somebody looks.
local LOOK_EVERY = 16
local left, calls, runs, notes = request.n, CALLS_AT_ONCE, 0, 0

-- Bytes that are to go, by what the keys seem to take.
local function too_much()
  local full, most = fullness(true)
  return (full - SHED_UNTIL) * most
end
local bytes = too_much()

local function is_wanted() return left > 0 and calls > 0 and bytes > 0 end

local function take(key)
  bytes = bytes - (call('MEMORY', 'USAGE', key) or 0)
  call('UNLINK', key)
end

local function shed_event(env, id)
  calls = calls - CALLS_AN_EVENT
  local key = P .. 'ev:' .. env .. ':' .. id
  local received = string.match(call('GETRANGE', key, 0, HEAD_BYTES - 1), '^%d+ (%d+)')
  if not received or tonumber(received) > now - SHORTEST_EVENTS_S * 1000 then return end
  -- Without an expiry, it is not routed yet.
  if call('TTL', key) < 0 or call('EXISTS', P .. 'el:' .. env .. ':' .. id) == 1 then return end
  if call('HEXISTS', P .. 'eg:' .. env, id) == 0 then take(key) end
end

local function shed_run(env, run)
  calls = calls - CALLS_A_RUN
  local summary = P .. 'run:' .. run
  local events = call('HGET', summary, 'ev')
  if not events then return end
  for id in string.gmatch(events, '%S+') do shed_event(env, id) end
  local lost = call('LLEN', P .. 'h:' .. run)
  -- Whoever asks for the run is told.
  call('HINCRBY', summary, 'nl', lost)
  take(P .. 'pl:' .. run)
  take(P .. 'h:' .. run)
  left, runs, notes = left - 1, runs + 1, notes + lost
  if runs % LOOK_EVERY == 0 and too_much() <= 0 then bytes = 0 end
end

while is_wanted() do
  local env = call('ZREVRANGE', P .. 'kept', 0, 0)[1]
  if not env then break end
  local at = tonumber(call('HGET', P .. 'shed', env) or '0')
  local taken = 0
  for _, run in ipairs(call('ZRANGE', P .. 'ended:' .. env, at, at + math.min(left, PAGE) - 1)) do
    if not is_wanted() then break end
    shed_run(env, run)
    taken = taken + 1
  end
  keep_less(env, at, taken)
  if taken > 0 then call('HINCRBY', P .. 'shed', env, taken) end
end
if runs > 0 then
  call('HINCRBY', P .. 'lost', 'runs', runs)
  call('HINCRBY', P .. 'lost', 'notes', notes)
end
local is_short = fullness(true) >= SHED_UNTIL
close_shard()
return {runs, notes, is_short and 1 or 0}
