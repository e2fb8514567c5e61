-- The steps of a run that have a result, in the order in which they got it. What has ended keeps that beside its results,
-- as a JSON array under :k: a rerun from one of its steps begins with those before it.
local function completed(run)
  local steps = call('LRANGE', P .. 'sk:' .. run, 0, -1)
  if steps[1] then return steps end
  -- Other versions have written ids as they are, quotes and all.
  local is_readable, kept = pcall(cjson.decode, call('HGET', P .. 'pl:' .. run, ':k') or '[]')
  return is_readable and kept or {}
end

-- The first n results of a run, {step, result, ...}; nil where one of them is not kept.
local function first_results(run, n)
  local steps, flat = completed(run), {}
  if #steps < n then return nil end
  for first = 1, n, FIELDS_AT_ONCE do
    local last = math.min(first + FIELDS_AT_ONCE - 1, n)
    local values = call('HMGET', P .. 'pl:' .. run, unpack(steps, first, last))
    for at = first, last do
      local value = values[at - first + 1]
      if not value then return nil end
      flat[#flat + 1] = steps[at]
      flat[#flat + 1] = value
    end
  end
  return flat
end

-- The run begins with these results.
local function inherit(run, flat)
  local steps, raw, stored = {}, 0, 0
  for at = 1, #flat, 2 do
    steps[#steps + 1] = flat[at]
    raw, stored = raw + raw_length(flat[at + 1]), stored + #flat[at + 1]
  end
  for first = 1, #steps, FIELDS_AT_ONCE do
    local last = math.min(first + FIELDS_AT_ONCE - 1, #steps)
    call('HSET', P .. 'pl:' .. run, unpack(flat, 2 * first - 1, 2 * last))
    call('RPUSH', P .. 'sk:' .. run, unpack(steps, first, last))
  end
  has_more(run, raw, stored)
end

local function run_made(env, fn, run)
  tally(fn, 's', 1)
  call('SADD', P .. 'rq:' .. fn, run)
  if call('HSET', P .. 'rc:' .. fn, 'l', digits(now)) == 1 then list_function(env, fn) end
end
