-- What is listed, newest first.
--
-- ei:<env> is a stream of an environment's events, <received ms>-<number>: e id, n name, p the entry of the event of the
-- same name before it: '' where there was none, '?' where nobody knows. en:<env> has of each name
-- "<its newest entry> <day> <how many on that day> <id of the newest>", and under the empty name the entry up to which
-- names have been left out. Where memory was short, entries are missing that others name. eb:<env> are the branches of an environment that events came for, by when the last did.
local DAY_MS = 86400000
local MOST_NAMES = 1000
local LOOKED_AT_FOR_ROOM = 8
local MOST_BRANCHES = 1000

-- Names come from outside. The one that was not heard of for the longest, among some, makes room. `others`: how many
-- are on their way.
local function make_room(names, at, others)
  if call('HLEN', names) + others < MOST_NAMES then return end
  local oldest, oldest_ms
  local some = call('HRANDFIELD', names, LOOKED_AT_FOR_ROOM, 'WITHVALUES')
  for i = 1, #some, 2 do
    local ms = some[i] ~= '' and tonumber(string.match(some[i + 1], '^%d+'))
    if ms and (not oldest_ms or ms < oldest_ms) then oldest, oldest_ms = some[i], ms end
  end
  call('HDEL', names, oldest)
  call('HSET', names, '', at)
end

local function list_branch(env)
  local parent = string.match(env, '^([^~]*)~')
  if not parent then return end
  local keep_s = events_keep_s(env)
  local key = P .. 'eb:' .. parent
  call('ZADD', key, now, env)
  call('ZREMRANGEBYSCORE', key, '-inf', now - keep_s * 1000)
  call('ZREMRANGEBYRANK', key, 0, -MOST_BRANCHES - 1)
  call('EXPIRE', key, keep_s)
end

-- Trimmed at every 64th event, and gone when nothing came for as long as events are kept. The first event of a name on a
-- day puts that off by a day more. `before`: the number of the event before these.
local TRIM_EVERY = 64
local function list_events(env, events, before)
  local list, names = P .. 'ei:' .. env, P .. 'en:' .. env
  local day, known, said, told = math.floor(now / DAY_MS), {}, {}, {}
  for _, event in ipairs(events) do
    local name = event[2]
    if not known[name] then
      known[name] = {p = '', n = 0}
      said[#said + 1] = name
    end
  end
  local is_first, left_out = false, nil
  for n, value in ipairs(call('HMGET', names, unpack(said))) do
    local at = known[said[n]]
    if value then
      local newest, its_day, count = string.match(value, '^(%S+) (%d+) (%d+)')
      at.p = newest
      if tonumber(its_day) == day then at.n = tonumber(count) end
    else
      if left_out == nil then left_out = call('HEXISTS', names, '') == 1 end
      if left_out then at.p = '?' end
      at.is_new = true
    end
    is_first = is_first or at.n == 0
  end
  for n, event in ipairs(events) do
    local at, entry = known[event[2]], digits(now) .. '-' .. digits(before + n)
    local added = redis.pcall('XADD', list, entry, 'e', event[1], 'n', event[2], 'p', at.p)
    -- A shard that has lost its clock, and nothing else: no event is refused for a list.
    if type(added) == 'table' then entry = call('XADD', list, '*', 'e', event[1], 'n', event[2], 'p', at.p) end
    at.p, at.n, at.id = entry, at.n + 1, event[1]
  end
  local others = 0
  for n, name in ipairs(said) do
    local at = known[name]
    if at.is_new then
      make_room(names, at.p, others)
      others = others + 1
    end
    told[2 * n - 1], told[2 * n] = name, at.p .. ' ' .. day .. ' ' .. at.n .. ' ' .. at.id
  end
  call('HSET', names, unpack(told))
  if is_first then
    local ttl = events_keep_s(env) + 2 * DAY_MS / 1000
    call('EXPIRE', list, ttl)
    call('EXPIRE', names, ttl)
    -- For whoever makes room (shed).
    call('ZADD', P .. 'eis', 'NX', 0, env)
  end
  if math.floor(before / TRIM_EVERY) < math.floor((before + #events) / TRIM_EVERY) then
    call('XTRIM', list, 'MINID', '~', digits(now - events_keep_s(env) * 1000))
  end
  list_branch(env)
end

-- runs:<env> are the runs of an environment by when they were made, rs:<s>:<fn> those of a function with one status.
-- Scores are whole ms and, where several are made in one, a fraction, so that each is another one. fns:<env> are
-- the functions that have had runs.
local LISTED_AS = {Scheduled = 's', Running = 'r', Completed = 'c', Failed = 'f', Cancelled = 'x', Skipped = 'k'}

local function status_list(status, fn) return P .. 'rs:' .. LISTED_AS[status] .. ':' .. fn end

local function list_run(env, fn, run, status)
  local at = next_place()
  call('ZADD', P .. 'runs:' .. env, at, run)
  call('ZADD', status_list(status, fn), at, run)
  return at
end

local function list_function(env, fn) call('SADD', P .. 'fns:' .. env, string.sub(fn, #env + 2)) end

-- `at`: where list_run put it; nil for a run that a version without these lists has made.
local function relist_run(fn, run, at, from, to)
  if not at then return end
  local was_there = call('ZREM', status_list(from, fn), run) == 1
  -- A version without these lists may have begun it.
  if not was_there and from == 'Running' then call('ZREM', status_list('Scheduled', fn), run) end
  call('ZADD', status_list(to, fn), at, run)
end

-- Runs leave their list as they are forgotten. Those that went unseen, by their expiry, or were forgotten by a version
-- without these lists, leave it here, if they stand among the first.
local function unlist_runs(env, fn, status, count)
  local key, before = status_list(status, fn), now - runs_keep_s(env) * 1000
  local oldest = call('ZRANGE', key, 0, count - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if tonumber(oldest[i + 1]) > before then return end
    if call('EXISTS', P .. 'run:' .. oldest[i]) == 0 then call('ZREM', key, oldest[i]) end
  end
end

-- A list of runs that are over goes by itself when no other came to it: once an hour that is put off by an hour more.
local function keep_list(env, fn, status)
  local key, ttl = status_list(status, fn), runs_keep_s(env) + 2 * 3600
  if call('EXPIRE', key, ttl, 'GT') == 0 then call('EXPIRE', key, ttl, 'NX') end
end
