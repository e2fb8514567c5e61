local function keep_results(run, output, error)
  local fields = {}
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if output then add('o', output) end
  if error then add('x', error) end
  local steps = call('LRANGE', P .. 'sk:' .. run, 0, -1)
  if steps[1] then add(':k', cjson.encode(steps)) end
  if fields[1] then call('HSET', P .. 'pl:' .. run, unpack(fields)) end
end

local function heard(env, name)
  return call('SISMEMBER', P .. 'lis:' .. env, name) == 1 or call('EXISTS', P .. 'wp:' .. env .. ':' .. name) == 1
end

-- The trace of what a run brings about: under the span of the run, whose id everybody derives so from the run's.
local function trace_in(run, trace)
  if not trace or string.sub(trace, -1) ~= '1' then return trace end
  return string.sub(trace, 1, 36) .. string.sub(redis.sha1hex(run), 1, 16) .. string.sub(trace, 53)
end

-- The event that tells of a run's end; every piece is canonical JSON already, so the whole is. Any may be compressed.
local function announce(run, state, status, a)
  if state.ne == '1' then return end
  local bodies = {}
  local count = tonumber(state.ec)
  for n = 0, count - 1 do bodies[#bodies + 1] = call('HGET', P .. 'pl:' .. run, 'e:' .. n) end
  local function body(id, name, with_error, correlation)
    local pieces = {'{"data":{"_inngest":{"status":"' .. status .. '"}'}
    local function add(...)
      for _, piece in ipairs({...}) do pieces[#pieces + 1] = piece end
    end
    if correlation then add(',"correlation_id":"' .. correlation .. '"') end
    if with_error and a.error then add(',"error":', a.error) end
    add(',"event":', bodies[1], ',"events":[')
    for n, event in ipairs(bodies) do add(n > 1 and ',' or '', event) end
    add('],"function_id":' .. state.fj)
    if a.result then add(',"result":', a.result) end
    add(',"run_id":"' .. run .. '"},"id":"' .. id .. '","name":"' .. name .. '","ts":' .. digits(now) .. ',"user":{}}')
    return join_bodies(pieces)
  end
  local trace = trace_in(run, state.tp)
  if status == 'Failed' or status == 'Cancelled' then
    local name = status == 'Failed' and 'inngest/function.failed' or 'inngest/function.cancelled'
    emit(state.e, a.ids[1], name, body(run, name, true, nil), trace)
  end
  if heard(state.e, 'inngest/function.finished') then
    emit(state.e, a.ids[2], 'inngest/function.finished',
      body(a.ids[2], 'inngest/function.finished', true, state.parent), trace)
  end
end

local CANCELLED_REPLY = '{"error":{"message":"invoked function was cancelled","name":"Error"}}'
local CANCELLED_ERROR = '{"error":"function cancelled","message":"function cancelled","name":"Error"}'

-- The list of an environment's runs holds those that go on and those that are still kept. ended:<env>: the latter by
-- when they ended; forget: environments by when the oldest of these is to go.
local FORGOTTEN_AT_ONCE = 64
local FORGET_EVERY_MS = 5000
-- What the history of a run takes, roughly.
local BESIDE_PAYLOADS = 1000
-- Whoever forgets a run must still know where it is listed, and may come late: if nobody comes, it goes by itself.
local FORGOTTEN_LATE_S = 86400
local function end_summary(env, run, status, ...)
  local key, keep_s = P .. 'run:' .. run, runs_keep_s(env)
  call('HSET', key, 's', status, 'z', digits(now), 'k', keep_s, ...)
  call('EXPIRE', key, keep_s + FORGOTTEN_LATE_S)
end

local function keep_ended(env, run)
  call('ZADD', P .. 'ended:' .. env, now, run)
  call('ZADD', P .. 'forget', 'LT', now + runs_keep_s(env) * 1000, env)
end

-- kept: environments by about how many bytes the payloads of their ended runs take; shed: of how many, the oldest, the
-- payloads have gone before their time. The next `count` after the first `at` go now, with their share.
local function keep_less(env, at, count)
  local there = call('ZCARD', P .. 'ended:' .. env) - at
  if there <= count then return call('ZREM', P .. 'kept', env) end
  local bytes = tonumber(call('ZSCORE', P .. 'kept', env) or '0')
  if bytes > 0 then call('ZINCRBY', P .. 'kept', -bytes * count / there, env) end
end

local function forget_kept(env, count)
  local at = tonumber(call('HGET', P .. 'shed', env) or '0')
  if count > at then keep_less(env, at, count - at) end
  if at > count then
    call('HINCRBY', P .. 'shed', env, -count)
  elseif at > 0 then
    call('HDEL', P .. 'shed', env)
  end
end

-- How long (ms) a run that ended at `at` is kept: as it was said then or as it is today, whichever is shorter. A version
-- that did not write that down has left it to the expiry.
local function kept_ms(env, run, at, keep_s)
  local left_ms = keep_s and keep_s * 1000 or now - at + call('PTTL', P .. 'run:' .. run)
  return math.min(runs_keep_s(env) * 1000, left_ms)
end

-- Whoever is not kept any more goes, in the order of their ends, and leaves all lists.
local function forget_runs(env)
  local oldest = call('ZRANGE', P .. 'ended:' .. env, 0, FORGOTTEN_AT_ONCE - 1, 'WITHSCORES')
  local gone, lists, next_at = {}, {}, nil
  for i = 1, #oldest, 2 do
    local run, at = oldest[i], tonumber(oldest[i + 1])
    local about = call('HMGET', P .. 'run:' .. run, 'f', 's', 'k')
    local until_ms = about[1] and at + kept_ms(env, run, at, about[3]) or now
    if until_ms > now then
      next_at = math.max(now + FORGET_EVERY_MS, until_ms)
      break
    end
    call('UNLINK', P .. 'run:' .. run, P .. 'pl:' .. run, P .. 'h:' .. run)
    gone[#gone + 1] = run
    if LISTED_AS[about[2]] then
      local list = status_list(about[2], env .. '/' .. about[1])
      lists[list] = lists[list] or {}
      table.insert(lists[list], run)
    end
  end
  if gone[1] then
    forget_kept(env, #gone)
    lists[P .. 'ended:' .. env], lists[P .. 'runs:' .. env] = gone, gone
    for list, runs in pairs(lists) do call('ZREM', list, unpack(runs)) end
  end
  if not next_at and #gone == FORGOTTEN_AT_ONCE then
    next_at = now
    wake_wanted = true
  end
  if next_at then call('ZADD', P .. 'forget', next_at, env) else call('ZREM', P .. 'forget', env) end
end

-- The runs of an event are listed as long as one of them goes on, then for the retention. el:<env>:<id> counts them.
local function release_events(env, ids)
  for id in string.gmatch(ids, '%S+') do
    if call('DECR', P .. 'el:' .. env .. ':' .. id) <= 0 then
      call('DEL', P .. 'el:' .. env .. ':' .. id)
      call('EXPIRE', P .. 'er:' .. env .. ':' .. id, runs_keep_s(env))
    end
  end
end

-- What status shows of a function. rq:<fn> runs that have not begun, rb:<fn> those that have and go on; rc:<fn>: l ms of
-- the newest run, and how many ended by the hour since the epoch: c<hour> completed, f<hour> failed, x<hour> cancelled.
local HOURS = 24
local COUNTS_KEPT_S = 90 * 86400
local OUTCOME = {Completed = 'C', Failed = 'F', Cancelled = 'X'}
local TALLY = {Completed = 'c', Failed = 'f', Cancelled = 'x'}
local UNLIST_EVERY = 16
local function run_over(env, fn, run, begun, status, listed)
  tally(fn, OUTCOME[status], 1)
  local here, there = P .. 'rq:' .. fn, P .. 'rb:' .. fn
  if begun then here, there = there, here end
  -- A version that keeps no such index may have begun the run.
  if call('SREM', here, run) == 0 then call('SREM', there, run) end
  relist_run(fn, run, listed, begun and 'Running' or 'Scheduled', status)
  local key, hour = P .. 'rc:' .. fn, math.floor(now / 3600000)
  local ended = call('HINCRBY', key, TALLY[status] .. digits(hour), 1)
  if ended % UNLIST_EVERY == 1 then unlist_runs(env, fn, status, UNLIST_EVERY * 4) end
  if ended > 1 then return end
  keep_list(env, fn, status)
  for _, field in ipairs(call('HKEYS', key)) do
    local at = tonumber(string.sub(field, 2))
    if at and at <= hour - HOURS then call('HDEL', key, field) end
  end
  call('EXPIRE', key, COUNTS_KEPT_S)
end

-- Takes away what the run waits for and what waits to be asked for. Returns the items in flight other than `current`.
-- With `cancellable`, events that would cancel the run still do.
local function stop_run(run, current, cancellable)
  local in_flight = {}
  for _, member in ipairs(call('SMEMBERS', P .. 'ri:' .. run)) do
    local tag, id = string.sub(member, 1, 1), string.sub(member, 2)
    if tag == 'w' then
      local pause = hash(P .. 'w:' .. id)
      if not cancellable or pause.k ~= 'cancel' then remove_pause(id, pause) end
    elseif id ~= current then
      local item = call('HMGET', P .. 'i:' .. id, 'st', 'p')
      if item[1] == 'l' then
        in_flight[#in_flight + 1] = id
      else
        call('ZREM', P .. 'q:' .. item[2], id)
        call('ZREM', P .. 'timers', 'i' .. id)
        drop_item(id, run, item[2])
      end
    end
  end
  return in_flight
end

-- Ends a run. `current` is the item under whose lease this happens; a: output, error, result, reply, ids.
-- Other leases of the run stay until their executors have stopped; they are told at once.
local function end_run(run, status, a, current)
  local state = hash(P .. 'st:' .. run)
  if not state.e then return false end
  for _, id in ipairs(stop_run(run, current)) do
    local executor = call('HMGET', P .. 'i:' .. id, 'ex', 'tk')
    call('HSET', P .. 'i:' .. id, 'c', 1)
    call('RPUSH', P .. 'inbox:' .. executor[1], executor[2])
    call('EXPIRE', P .. 'inbox:' .. executor[1], 60)
  end
  if state.ot and not state.t1 then clear_timer('O' .. run) end
  if state.ft and state.t1 then clear_timer('F' .. run) end
  if state.sg and call('GET', P .. 'sg:' .. state.sg) == run then call('DEL', P .. 'sg:' .. state.sg) end
  if status == 'Cancelled' then
    a.error = CANCELLED_ERROR
    a.reply = CANCELLED_REPLY
  end
  end_summary(state.e, run, status)
  announce(run, state, status, a)
  keep_results(run, a.output, a.error and (a.result or a.error))
  for _, key in ipairs({'pl:', 'h:'}) do call('EXPIRE', P .. key .. run, runs_keep_s(state.e)) end
  call('DEL', P .. 'st:' .. run, P .. 'sk:' .. run, P .. 'pd:' .. run, P .. 'ri:' .. run)
  run_over(state.e, state.fn, run, state.t1, status, state.la)
  keep_ended(state.e, run)
  local bytes = state.sz - (state.sv or 0) + #(a.output or '') + (a.error and #(a.result or a.error) or 0)
  call('ZINCRBY', P .. 'kept', bytes + BESIDE_PAYLOADS, state.e)
  release_events(state.e, call('HGET', P .. 'run:' .. run, 'ev'))
  if state.parent and a.reply then resolve(state.parent, a.reply) end
  return true
end
