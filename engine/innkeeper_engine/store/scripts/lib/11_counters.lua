-- What the shard counts, for Prometheus, the same whoever asks. m:<env>:<day since the epoch> is a hash, <code><slug> ->
-- how many: runs s scheduled, b begun, C completed, F failed, X cancelled; requests (leases of items) q scheduled,
-- r started, 0 succeeded, 1 errored (the item comes back), 2 failed (it does not); o bytes of the steps' outputs.
-- mi:<env> says how many items a function has, leased or not; me and mf:<env> which environments and functions there
-- are; mg what concerns no environment: lanes that are parked, expired leases, notes that the recorder has kept.
-- What mostly comes together is one number: x is s and q, y is b, r, 0 and C, z is q, r and 0.
-- A script collects what it counts and writes it when it ends: what goes and what comes in its place is not written.
local tallied = {}
local function tally(fn, code, n)
  local of = tallied[fn]
  if not of then
    of = {}
    tallied[fn] = of
  end
  of[code] = (of[code] or 0) + n
end

-- Of the whole shard.
local function tally_shard(what, n) tally('', what, n) end

local DAY_MS = 86400000
-- Today's and yesterday's are looked at.
local COUNTERS_KEPT_S = 3 * 86400
-- Names of functions come from outside: what would be one too many is counted together.
local MOST_COUNTERS = 20000
local function first_of_the_day(key, env, slug, code, n)
  if slug ~= '_other' and call('HLEN', key) > MOST_COUNTERS then
    call('HDEL', key, code .. slug)
    call('HINCRBY', key, code .. '_other', n)
    slug = '_other'
  end
  call('EXPIRE', key, COUNTERS_KEPT_S)
  call('SADD', P .. 'me', env)
  call('SADD', P .. 'mf:' .. env, slug)
end

local function together(counts)
  local r, succeeded = counts.r or 0, counts['0'] or 0
  local y = math.min(counts.b or 0, r, succeeded, counts.C or 0)
  if y > 0 then
    counts.y, counts.b, counts.C = y, counts.b - y, counts.C - y
    r, succeeded = r - y, succeeded - y
  end
  local q = counts.q or 0
  local z = math.min(q, r, succeeded)
  if z > 0 then
    counts.z = z
    q, r, succeeded = q - z, r - z, succeeded - z
  end
  local x = math.min(counts.s or 0, q)
  if x > 0 then
    counts.x, counts.s = x, counts.s - x
    q = q - x
  end
  counts.q, counts.r, counts['0'] = q, r, succeeded
end

local function write_counters()
  for fn, counts in pairs(tallied) do
    local slash = string.find(fn, '/', 1, true)
    if not slash then
      for what, n in pairs(counts) do
        if n ~= 0 then call('HINCRBY', P .. 'mg', what, n) end
      end
    else
      local env, slug = string.sub(fn, 1, slash - 1), string.sub(fn, slash + 1)
      local key = P .. 'm:' .. env .. ':' .. math.floor(now / DAY_MS)
      together(counts)
      for code, n in pairs(counts) do
        if n == 0 then
          -- As many have come as have gone.
        elseif code == 'i' then
          if call('HINCRBY', P .. 'mi:' .. env, slug, n) == 0 then call('HDEL', P .. 'mi:' .. env, slug) end
        elseif call('HINCRBY', key, code .. slug, n) == n then
          first_of_the_day(key, env, slug, code, n)
        end
      end
    end
  end
end

-- Every verb that writes ends here.
local function close_shard()
  write_counters()
  if listed then
    call('HSET', P .. 'clock', 'now', digits(now), 'turn', string.format('%.17g', turn or last_turn),
      'listed', string.format('%.17g', listed))
  elseif turn or now > last_now then
    call('HSET', P .. 'clock', 'now', digits(now), 'turn', string.format('%.17g', turn or last_turn))
  end
  if wake_wanted or call('EXISTS', P .. 'ready') == 1 then
    if call('LLEN', P .. 'wake') == 0 then call('RPUSH', P .. 'wake', '1') end
  end
end
