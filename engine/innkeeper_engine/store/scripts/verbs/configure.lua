-- configure: one app's registration and what the scheduler must know of its functions.
-- app, blob (or '' to remove the app), functions {fn, paused lanes, {def, cap, ...}} (among the caps `sig`, the signature
-- of its keys), gone {fn}, crons {id, slot, due}, crons_gone {id}, heard {internal event names}, cancellations {id, body
-- or '' to forget it, due ms}, switches {name, body or '' to forget it}, holds {fn, paused lanes} where nothing else of a
-- function changes, tell (an app that the operator is to look at, or ''), expect: the version that this was decided on. Reply: the registry's new version; 0 where
-- it is another one than expected, and nothing was done.
local env = request.env
if request.expect and registry_version() ~= request.expect then return 0 end

local function set_caps(fn, caps)
  local key = P .. 'f:' .. fn
  local old, new = hash(key), {}
  old.held = nil
  for i = 1, #caps, 2 do new[caps[i]] = tostring(caps[i + 1]) end
  -- Who waits under other keys is to be keyed again at once, whatever it waits for.
  local other_keys = new.sig ~= old.sig
  for def, cap in pairs(new) do call('HSET', key, def, cap) end
  local changed = {}
  for def, cap in pairs(old) do
    if not new[def] then call('HDEL', key, def) end
    if def ~= 'sig' and (other_keys or new[def] ~= cap) then changed[#changed + 1] = def end
  end
  table.sort(changed)
  for _, def in ipairs(changed) do cap_changed(fn, def) end
end

local function set_held(fn, held)
  local key = P .. 'f:' .. fn
  if held ~= '' then call('HSET', key, 'held', held) else call('HDEL', key, 'held') end
  for _, lane in ipairs(members(P .. 'hl:' .. fn)) do
    if not is_held(held, lane) then
      call('SREM', P .. 'hl:' .. fn, lane)
      set_idle('l' .. lane)
      if call('EXISTS', P .. 'lr:' .. lane) == 1 then ready_lane(lane) end
    end
  end
end

if request.app ~= '' then
  if request.blob == '' then
    call('HDEL', P .. 'reg:' .. env, request.app)
  else
    call('HSET', P .. 'reg:' .. env, request.app, request.blob)
  end
  call('SADD', P .. 'envs', env)
end
for _, f in ipairs(request.functions) do
  set_caps(f[1], f[3])
  set_held(f[1], f[2])
end
for _, h in ipairs(request.holds) do set_held(h[1], h[2]) end
for _, s in ipairs(request.switches) do
  if s[2] == '' then call('HDEL', P .. 'sw:' .. env, s[1]) else call('HSET', P .. 'sw:' .. env, s[1], s[2]) end
end
for _, fn in ipairs(request.gone) do
  set_caps(fn, {})
  -- Its runs in flight must get to know that it is gone.
  set_held(fn, '')
end
for _, cron in ipairs(request.crons) do
  -- A cron that is armed already keeps its slot: a sync never skips or repeats one.
  if call('HSETNX', P .. 'cron:' .. cron[1], 'slot', cron[2]) == 1 then set_timer('C' .. cron[1], cron[3]) end
end
for _, id in ipairs(request.crons_gone) do
  call('DEL', P .. 'cron:' .. id)
  call('ZREM', P .. 'timers', 'C' .. id)
end
if request.heard then
  call('DEL', P .. 'lis:' .. env)
  for _, name in ipairs(request.heard) do call('SADD', P .. 'lis:' .. env, name) end
end
for _, c in ipairs(request.cancellations) do
  if c[2] == '' then forget_cancellation(env, c[1]) else set_cancellation(env, c[1], c[2], c[3]) end
end
local version = new_registry_version()
if request.tell ~= '' then
  call('HSET', P .. 'asks', 'look\n' .. env .. '\n' .. request.tell, digits(version))
  if call('LLEN', P .. 'regbell') == 0 then call('RPUSH', P .. 'regbell', '1') end
end
close_shard()
return version
