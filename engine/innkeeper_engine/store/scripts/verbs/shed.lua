-- shed: where memory is short, takes payloads, history and events from up to `n` ended runs; of the environments with most
-- of them the oldest first. Where no ended run has anything left, events go that are routed, of the environments with
-- most of them the oldest first. Events stay for as long as a repeated send must find them, and while a run of theirs
-- goes on or a gathering holds them.
-- Whoever else does the same has its part in what is taken: each script looks how much is still too much, takes no more
-- than that, and works only so long.
-- Reply: {runs, notes that went with them, events, whether memory is still short, whether something may be left to take}.
-- lost: how many of all three in all.
local PAGE = 64
-- Calls of one script, about: what a run takes, and each event of it.
local CALLS_AT_ONCE, CALLS_A_RUN, CALLS_AN_EVENT = 2000, 8, 7
-- What goes is freed a little later, or less than was thought: after so many runs somebody looks.
local LOOK_EVERY = 16
local left, calls, runs, notes, events = request.n, CALLS_AT_ONCE, 0, 0, 0

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

-- Takes an event, if it may go. What became of it, and, where it was still there, its place on the list of events.
local function shed_event(env, id)
  calls = calls - 1
  local key = P .. 'ev:' .. env .. ':' .. id
  local seq, received = string.match(call('GETRANGE', key, 0, HEAD_BYTES - 1), '^(%d+) (%d+)')
  if not seq then return 'gone' end
  calls = calls - CALLS_AN_EVENT + 1
  local place = received .. '-' .. seq
  if tonumber(received) > now - SHORTEST_EVENTS_S * 1000 then return 'young', place end
  -- Without an expiry, it is not routed yet.
  if call('TTL', key) < 0 then return 'unrouted', place end
  if call('EXISTS', P .. 'el:' .. env .. ':' .. id) == 1 then return 'held', place end
  if call('HEXISTS', P .. 'eg:' .. env, id) == 1 then return 'held', place end
  take(key)
  call('XDEL', P .. 'ei:' .. env, place)
  events = events + 1
  return 'taken', place
end

local function shed_run(env, run)
  calls = calls - CALLS_A_RUN
  local summary = P .. 'run:' .. run
  local ids = call('HGET', summary, 'ev')
  if not ids then return end
  for id in string.gmatch(ids, '%S+') do shed_event(env, id) end
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

-- Events by themselves. eis: environments that have lists of events (ei:<env>), by how many are on them, as it was when
-- somebody looked last; 0 for those that are new, and where none may go now. eiat: of each of them "<the entry up to
-- which its list was gone through> <when that began, ms> <until when none may go, ms>"; under the empty name
-- "<cursor of the round through eis> <1 while this round has found none that may go>".
local WEIGHED_AT_ONCE, CALLS_AN_ENVIRONMENT = 128, 2
-- The router may come at any time to those that are not routed.
local UNROUTED_MS = 10000
local BEGIN_ANEW_MS = 3600000
local look_at = LOOK_EVERY

-- `known`: environment, how many events it had, and so on. Returns whether none may go now.
local function weigh_some(known)
  local envs, has_none = {}, true
  for i = 1, #known, 2 do envs[#envs + 1] = known[i] end
  if not envs[1] then return true end
  for n, walk in ipairs(call('HMGET', P .. 'eiat', unpack(envs))) do
    calls = calls - CALLS_AN_ENVIRONMENT
    local env, list, count = envs[n], P .. 'ei:' .. envs[n], 0
    if tonumber(walk and string.match(walk, '%d+$') or '0') <= now then count = call('XLEN', list) end
    if count > 0 then has_none = false end
    if count == 0 and call('EXISTS', list) == 0 then
      call('ZREM', P .. 'eis', env)
      call('HDEL', P .. 'eiat', env)
    elseif count ~= tonumber(known[2 * n]) then
      call('ZADD', P .. 'eis', count, env)
    end
  end
  return has_none
end

-- The next page of a round through all environments. Whether the round has ended with it, and has found none.
local function weigh()
  local cursor, found_none = string.match(call('HGET', P .. 'eiat', '') or '0 1', '^(%d+) (%d)$')
  local page = call('ZSCAN', P .. 'eis', cursor, 'COUNT', WEIGHED_AT_ONCE)
  calls = calls - CALLS_AN_ENVIRONMENT
  local has_none = weigh_some(page[2]) and found_none == '1'
  if page[1] == '0' then
    call('HDEL', P .. 'eiat', '')
    return has_none
  end
  call('HSET', P .. 'eiat', '', page[1] .. ' ' .. (has_none and 1 or 0))
  return false
end

-- Goes through a page of a list, after the entry `at`. The last entry that was passed; why the next one ends the walk for
-- now, where something does, and since when (ms) that one is there.
local function walk_page(env, list, at)
  local count = math.min(left, PAGE)
  local page, gone, passed = call('XRANGE', list, '(' .. at, '+', 'COUNT', count), {}, 0
  local why, place
  for _, entry in ipairs(page) do
    if not is_wanted() then break end
    why, place = shed_event(env, entry[2][2])
    -- All that come after it are as young, or not routed either. Not so where another came later under the same id.
    if (why == 'young' or why == 'unrouted') and place == entry[1] then break end
    if why == 'taken' then left = left - 1 end
    if why == 'gone' or why == 'taken' and place ~= entry[1] then gone[#gone + 1] = entry[1] end
    at, passed, why = entry[1], passed + 1, nil
  end
  if gone[1] then call('XDEL', list, unpack(gone)) end
  if passed == #page and #page < count then why = 'end' end
  return at, why, why and place and tonumber(string.match(place, '^%d+'))
end

-- What has to stay is passed and not looked at again, but once an hour: what held it may have let it go, and no run that
-- has ended takes it along.
local function shed_events(env)
  calls = calls - CALLS_A_RUN
  local list = P .. 'ei:' .. env
  local at, began = string.match(call('HGET', P .. 'eiat', env) or '', '^(%S+) (%d+)')
  if not at or at == '0-0' then at, began = '0-0', now end
  local why, since, until_ms
  at, why, since = walk_page(env, list, at)
  began, until_ms = tonumber(began), 0
  if why and at ~= '0-0' and began + BEGIN_ANEW_MS <= now then
    at = '0-0'
  elseif why then
    until_ms = began + BEGIN_ANEW_MS
    if why == 'young' then until_ms = math.min(until_ms, since + SHORTEST_EVENTS_S * 1000) end
    if why == 'unrouted' then until_ms = math.min(until_ms, now + UNROUTED_MS) end
  end
  call('HSET', P .. 'eiat', env, at .. ' ' .. digits(began) .. ' ' .. digits(until_ms))
  call('ZADD', P .. 'eis', until_ms > now and 0 or call('XLEN', list), env)
  if events < look_at then return end
  look_at = events + LOOK_EVERY
  if too_much() <= 0 then bytes = 0 end
end

local is_bare = is_wanted() and weigh()
while is_wanted() do
  local most = call('ZREVRANGE', P .. 'eis', 0, 0, 'WITHSCORES')
  local env, known = most[1], tonumber(most[2] or '0')
  calls = calls - CALLS_AN_ENVIRONMENT
  if known == 0 then
    if is_bare then break end
    is_bare = weigh()
  else
    is_bare = false
    local count = call('XLEN', P .. 'ei:' .. env)
    -- Some have gone since, for their time was over.
    if count < known then call('ZADD', P .. 'eis', count, env) else shed_events(env) end
  end
end

local function lose(what, count)
  if count > 0 then call('HINCRBY', P .. 'lost', what, count) end
end
lose('runs', runs)
lose('notes', notes)
lose('events', events)
local is_short = too_much() > 0
close_shard()
return {runs, notes, events, is_short and 1 or 0, is_bare and 0 or 1}
