-- shed: takes payloads and history from up to `n` ended runs; of the environments with most of them the oldest first.
-- Reply: {runs, notes that went with them, whether memory is still short}. lost: how many of both in all.
local PAGE = 64
local left, runs, notes = request.n, 0, 0

local function shed_run(run)
  local summary = P .. 'run:' .. run
  if call('EXISTS', summary) == 0 then return end
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
  for _, run in ipairs(page) do shed_run(run) end
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
