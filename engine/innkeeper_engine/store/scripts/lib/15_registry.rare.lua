-- regver, the registry's version: who decides on an older one is told so.
local function registry_version() return tonumber(call('GET', P .. 'regver') or '0') end

-- By the time, not counted: whoever knows a version of a server that has lost its data must not take it for a later one.
local function new_registry_version()
  local version = math.max(now, registry_version() + 1)
  call('SET', P .. 'regver', digits(version))
  wake_router()
  wake_wanted = true
  return version
end

-- Cancellations of many runs: cx:<env> all of an environment by id; swp:<env>/<id> how far the runs that were there have
-- been looked through: revision, phase, cursor, looked, cancelled. The timer J<env>/<id> says when to go on.
local function set_cancellation(env, id, body, due)
  call('HSET', P .. 'cx:' .. env, id, body)
  set_timer('J' .. env .. '/' .. id, due)
end

local function forget_cancellation(env, id)
  call('HDEL', P .. 'cx:' .. env, id)
  call('DEL', P .. 'swp:' .. env .. '/' .. id)
  clear_timer('J' .. env .. '/' .. id)
end
