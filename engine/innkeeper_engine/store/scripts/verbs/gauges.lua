-- gauges: what there is now, for Prometheus. Of the shard where request.shard, of the environment request.env where it is
-- one, and of request.functions {fn, whether anything was counted of it lately}: one of which nothing was, and which has
-- nothing to do, is forgotten.
-- Reply: {shard, environment, functions}. shard: {ready lanes, parked lanes, timers, leases, expired leases, notes that
-- wait for the recorder, notes that went before it saw them, runs that were shed}; environment: {events not routed, stuck
-- runs, dead letters, when (ms) the oldest event that is not routed came or ''};
-- a function: {runs that have not begun, runs that have, items, leased items, held lanes, when (ms) the oldest run that
-- has not begun was made or ''}.
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

local function of_shard()
  local found = call('HMGET', P .. 'mg', 'parked', 'leases', 'expired')
  local waiting, lost = history()
  local timers = call('ZCARD', P .. 'timers') + call('ZCARD', P .. 'timers2')
  return {call('ZCARD', P .. 'ready'), tonumber(found[1] or '0'), timers, tonumber(found[2] or '0'),
    tonumber(found[3] or '0'), waiting, lost, tonumber(call('HGET', P .. 'lost', 'runs') or '0')}
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

local function oldest(fn) return call('ZRANGE', status_list('Scheduled', fn), 0, 0, 'WITHSCORES')[2] or '' end

local function of_function(fn, was_counted)
  local slash = string.find(fn, '/', 1, true)
  local env, slug = string.sub(fn, 1, slash - 1), string.sub(fn, slash + 1)
  local queued, begun = call('SCARD', P .. 'rq:' .. fn), call('SCARD', P .. 'rb:' .. fn)
  local items = tonumber(call('HGET', P .. 'mi:' .. env, slug) or '0')
  if not was_counted and queued + begun == 0 then
    call('SREM', P .. 'mf:' .. env, slug)
    call('HDEL', P .. 'mi:' .. env, slug)
    if call('EXISTS', P .. 'mf:' .. env) == 0 then call('SREM', P .. 'me', env) end
  end
  return {queued, begun, items, call('SCARD', P .. 's:c|' .. fn), call('SCARD', P .. 'hl:' .. fn), oldest(fn)}
end

local functions = {}
for n, f in ipairs(request.functions) do functions[n] = of_function(f[1], f[2]) end
local reply = {request.shard and of_shard() or {}, request.env and of_environment(request.env) or {}, functions}
close_shard()
return reply
