-- gauges: what there is now, for Prometheus. Of the shard where request.shard, of the environment request.env where it is
-- one, and of request.functions {fn, whether anything was counted of it lately}: one of which nothing was, and which has
-- nothing to do, is forgotten. request.environments are looked at with all of their functions, as many of them as one
-- script may; of one that has many functions only how it is itself.
-- Reply: {shard, environment, functions, environments}. shard: {ready lanes, parked lanes, timers, leases, expired leases,
-- notes that wait for the recorder, notes that went before it saw them, runs and events that were shed}; environment: {events not
-- routed, stuck runs, dead letters, when (ms) the oldest event that is not routed came or ''};
-- a function: {runs that have not begun, runs that have, items, leased items, held lanes, when (ms) the oldest run that
-- has not begun is due or ''}; environments: {of the environment as above} or {that, {slug}, counts of each of
-- request.days, of the functions}.
local FUNCTIONS_AT_ONCE, MOST_OF_ONE = 200, 50
local function history()
  if call('EXISTS', P .. 'hist') == 0 then return 0, 0 end
  local info, added = call('XINFO', 'STREAM', P .. 'hist'), 0
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
  -- Of those that are kept nearly all are trimmed away.
  local at = call('GET', P .. 'histcur') or '0-0'
  local waiting = call('XLEN', P .. 'hist') - #call('XRANGE', P .. 'hist', '-', at, 'COUNT', 1000)
  local kept = tonumber(call('HGET', P .. 'mg', 'folded') or '0')
  local lost = added - kept - waiting
  -- What was noted before this was counted is not known to be lost.
  call('HSETNX', P .. 'mg', 'unknown', lost)
  return waiting, math.max(0, lost - tonumber(call('HGET', P .. 'mg', 'unknown')))
end

-- Executors that have been idle for a day are listed again as soon as they beat.
local IDLE_MS = 86400000
local function leases()
  local n, executors = 0, call('ZRANGE', P .. 'xs', 0, -1, 'WITHSCORES')
  for i = 1, #executors, 2 do
    local its = call('SCARD', P .. 'x:' .. executors[i])
    n = n + its
    if its == 0 and tonumber(executors[i + 1]) < now - IDLE_MS then call('ZREM', P .. 'xs', executors[i]) end
  end
  return n
end

local function of_shard()
  local found, shed = call('HMGET', P .. 'mg', 'parked', 'expired'), call('HMGET', P .. 'lost', 'runs', 'events')
  local waiting, lost = history()
  local timers = call('ZCARD', P .. 'timers') + call('ZCARD', P .. 'timers2')
  return {call('ZCARD', P .. 'ready'), tonumber(found[1] or '0'), timers, leases(),
    tonumber(found[2] or '0'), waiting, lost, tonumber(shed[1] or '0'), tonumber(shed[2] or '0')}
end

local function oldest_event(env)
  local entry = call('LINDEX', P .. 'es:' .. env, 0)
  if not entry then return '' end
  local head = call('GETRANGE', P .. 'ev:' .. env .. ':' .. string.sub(entry, 1, ID_LENGTH), 0, HEAD_BYTES - 1)
  return string.match(head, '^%d+ (%d+)') or ''
end

local function of_environment(env)
  local stuck = 0
  for _, run in ipairs(call('HKEYS', P .. 'stuck:' .. env)) do
    if is_live(run) then stuck = stuck + 1 else call('HDEL', P .. 'stuck:' .. env, run) end
  end
  return {call('LLEN', P .. 'es:' .. env), stuck, call('ZCARD', P .. 'dle:' .. env), oldest_event(env)}
end

local function of_function(fn, was_counted)
  local slash = string.find(fn, '/', 1, true)
  local env, slug = string.sub(fn, 1, slash - 1), string.sub(fn, slash + 1)
  local queued, begun = call('SCARD', P .. 'rq:' .. fn), call('SCARD', P .. 'rb:' .. fn)
  local items = tonumber(call('HGET', P .. 'mi:' .. env, slug) or '0')
  if not was_counted and queued + begun == 0 then
    forget_function(env, slug)
    forget_environment(env)
  end
  return {queued, begun, items, call('SCARD', P .. 's:c|' .. fn), call('SCARD', P .. 'hl:' .. fn), oldest(fn)}
end

local functions = {}
for n, f in ipairs(request.functions) do functions[n] = of_function(f[1], f[2]) end

local function counts_of(env, counted)
  local counts = {}
  for n, day in ipairs(request.days) do
    counts[n] = call('HGETALL', P .. 'm:' .. env .. ':' .. day)
    for i = 1, #counts[n], 2 do counted[string.sub(counts[n][i], 2)] = true end
  end
  return counts
end

local environments, left = {}, FUNCTIONS_AT_ONCE
for n, env in ipairs(request.environments or {}) do
  if left <= 0 then break end
  local known = call('SCARD', P .. 'mf:' .. env)
  left = left - 1 - math.min(known, MOST_OF_ONE)
  environments[n] = {of_environment(env)}
  if known <= MOST_OF_ONE then
    local counted, gauges, slugs = {}, {}, members(P .. 'mf:' .. env)
    local counts = counts_of(env, counted)
    for at, slug in ipairs(slugs) do gauges[at] = of_function(env .. '/' .. slug, counted[slug]) end
    if known == 0 then forget_environment(env) end
    environments[n] = {environments[n][1], slugs, counts, gauges}
  end
end

local reply = {request.shard and of_shard() or {}, request.env and of_environment(request.env) or {}, functions,
  environments}
close_shard()
return reply
