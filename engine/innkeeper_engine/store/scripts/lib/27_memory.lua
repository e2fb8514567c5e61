-- How full the server is: the share of maxmemory that is used, 0 where there is no limit, or the server does not say.
-- Asking takes longer than most scripts, so all of the shard ask once a second. In the clock: full, and fullat (ms).
local LOOK_EVERY_MS = 1000
-- From here on payloads and history of finished runs go, then events, the oldest first, until there is room again.
local SHED_AT, SHED_UNTIL = 0.8, 0.78
-- From here on no events are accepted: what is left is for the runs that go on.
local REFUSE_AT = 0.9

-- With `anew` it is looked at now, and maxmemory (bytes, 0: no limit) comes along.
local function fullness(anew)
  local known = call('HMGET', P .. 'clock', 'full', 'fullat')
  if not anew and known[2] and now < known[2] + LOOK_EVERY_MS then return tonumber(known[1]) end
  local info, full, most = redis.pcall('INFO', 'memory'), 0, 0
  if type(info) == 'string' then
    local function field(name) return tonumber(string.match(info, '\n' .. name .. ':(%d+)') or '0') end
    most = field('maxmemory')
    -- Buffers of replicas and of the append-only file do not count towards the limit.
    if most > 0 then full = (field('used_memory') - field('mem_not_counted_for_evict')) / most end
  end
  call('HSET', P .. 'clock', 'full', string.format('%.3f', full), 'fullat', digits(now))
  return full, most
end
