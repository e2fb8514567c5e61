-- apply(guard, effects, want, registry): the one place where decisions come true.
-- Reply: {status, registry version, detail, leased}. status: ok, or why nothing was done: lost (the lease is another's),
-- ended (the run has), stale (checkpoints came meanwhile: detail is {v, attempt, steps, bytes of state}), moved (the
-- cursor has, or what is guarded is gone, or the registry is another one than the version that is given), full (the
-- results would take the run beyond `most` {steps, bytes of state}: detail is {steps, bytes}), gone (results that are to be
-- there are not kept).
local guard = request.guard
local kind = guard[1]
local status, detail = 'ok', {}
local item

-- What the run would have with the results that are to be saved.
local function with_results(run)
  local steps = call('LLEN', P .. 'sk:' .. run)
  local size = tonumber(call('HGET', P .. 'st:' .. run, 'sz'))
  for _, e in ipairs(request.effects) do
    if e[1] == 'save' and call('HEXISTS', P .. 'pl:' .. run, e[3]) == 0 then
      steps = steps + 1
      size = size + raw_length(e[4])
    end
  end
  return steps, size
end

-- What is listed in one hash is at a revision in another, which rises.
local function guard_job(listed, progress)
  local key = P .. progress .. guard[2] .. '/' .. guard[3]
  local revision = tonumber(call('HGET', key, 'revision') or '0')
  if call('HEXISTS', P .. listed .. guard[2], guard[3]) == 0 or revision ~= guard[4] then
    status = 'moved'
  else
    call('HSET', key, 'revision', revision + 1)
  end
end

local function cursor_moves()
  local env, count = guard[2], guard[5]
  if count > 0 then
    events_are_over(env, count)
    call('LTRIM', P .. 'es:' .. env, count, -1)
    call('INCRBY', P .. 'ec:' .. env, count)
  end
  if guard[6] ~= '' then call('SET', P .. 'ew:' .. env, guard[6]) else call('DEL', P .. 'ew:' .. env) end
  if call('EXISTS', P .. 'es:' .. env) == 1 then
    call('ZADD', P .. 'routes', next_turn(), env)
    wake_router()
  else
    call('ZREM', P .. 'routes', env)
  end
  if call('EXISTS', P .. 'rw:' .. env) == 1 then call('PUBLISH', P .. 'routed', env) end
end

if request.registry and registry_version() ~= request.registry then
  status = 'moved'
elseif kind == 'lease' or kind == 'keep' then
  item = hash(P .. 'i:' .. guard[2])
  if item.tk ~= guard[3] then
    status = 'lost'
  elseif item.c or call('EXISTS', P .. 'st:' .. item.r) == 0 then
    status = 'ended'
    if kind == 'lease' then
      end_lease(guard[2], item, FAILED)
      drop_item(guard[2], item.r, item.p)
    end
  elseif kind == 'lease' and tonumber(item.v) > guard[4] then
    status, detail = 'stale', {tonumber(item.v), tonumber(item.a), call('LLEN', P .. 'sk:' .. item.r),
      tonumber(call('HGET', P .. 'st:' .. item.r, 'sz'))}
  elseif kind == 'keep' and guard[5] > 0 and tonumber(item.g) ~= guard[5] then
    status = 'lost'
  elseif request.most then
    local steps, size = with_results(item.r)
    if steps > request.most[1] or size > request.most[2] then status, detail = 'full', {steps, size} end
  end
elseif kind == 'cursor' then
  local at = tonumber(call('GET', P .. 'ec:' .. guard[2]) or '0')
  if at ~= guard[3] or (call('GET', P .. 'ew:' .. guard[2]) or '') ~= guard[4] then status = 'moved' end
elseif kind == 'live' then
  if call('EXISTS', P .. 'st:' .. guard[2]) == 0 then status = 'ended' end
elseif kind == 'cron' then
  if tonumber(call('HGET', P .. 'cron:' .. guard[2], 'slot')) ~= guard[3] then status = 'moved' end
elseif kind == 'history' then
  if (call('GET', P .. 'histcur') or '0-0') ~= guard[2] then status = 'moved' end
elseif kind == 'gather' then
  if call('HEXISTS', P .. 'gh:' .. guard[2], 'c') == 0 then status = 'moved' end
elseif kind == 'sweep' then
  guard_job('cx:', 'swp:')
elseif kind == 'replay' then
  guard_job('rpl:', 'rpp:')
elseif kind == 'kept' then
  inherited = first_results(guard[2], guard[3])
  if not inherited then status = 'gone' end
end

if status == 'ok' then
  current_item = item and guard[2]
  current_fn = item and fn_of(item.p)
  each(request.effects)
  -- The run had to end by this. What only asks for more time leaves it be.
  if item and item.od and (kind == 'lease' or #request.effects > 0) then
    time_out(item.r, 'finish', kind == 'lease' and guard[2] or nil)
  end
  if kind == 'lease' then
    end_lease(guard[2], item, retry_at and ERRORED or OUTCOMES[guard[5]] or SUCCESS)
    if rekeyed and call('EXISTS', P .. 'st:' .. item.r) == 1 then
      put_back(guard[2], unpack(rekeyed))
    elseif retry_at and call('EXISTS', P .. 'st:' .. item.r) == 1 then
      requeue(guard[2], item, retry_at)
    else
      drop_item(guard[2], item.r, item.p)
    end
  elseif kind == 'keep' then
    -- Who asks may not know how long this executor's leases are; one that died must not be waited for longer.
    if guard[4] > 0 then set_timer('L' .. guard[2], now + math.min(guard[4], tonumber(item.lm or guard[4]))) end
  elseif kind == 'cursor' then
    cursor_moves()
  elseif kind == 'history' then
    call('SET', P .. 'histcur', guard[3])
    call('XTRIM', P .. 'hist', 'MINID', '~', guard[3])
    if call('EXISTS', P .. 'hw') == 1 then call('PUBLISH', P .. 'folded', guard[3]) end
  elseif kind == 'gather' then
    drop_gathering(guard[2])
  end
end

local leased = {}
if request.want and status ~= 'stale' then leased = lease_some(request.want) end
close_shard()
return {status, call('GET', P .. 'regver') or '0', detail, leased}
