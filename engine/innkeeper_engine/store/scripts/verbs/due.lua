-- due(n, want): move what is due, look again at some of those who wait at limits that have changed, then lease.
-- Reply: {registry version, next timer ms or '', leased, crons {id, slot}, expired leases, the server's clock ms,
-- gatherings {id, kind, env, fn, {event ids}}, sweeps {env, cancellation}, replays {env, replay},
-- whether memory is short, whether a page of `watch` is due (1)}.
local crons, gathered, sweeps, replays, expired, watch = {}, {}, {}, {}, 0, 0
-- Whoever decides on a cron, a gathering, a sweep or a replay takes its timer on; if nobody lives to do so, it comes up again.
local RETRY_MS = 5000
-- Each may bring 100 ids; whoever gets them reads the events.
local GATHERED_AT_ONCE = 32
-- A run ends with all that it waits for: one that is too late ends in any case, others in the same script as long as they
-- have so much together.
local ENDED_AT_ONCE = 2000
-- Environments of which some ended runs are forgotten.
local FORGETTING_AT_ONCE = 4
local ended = 0

local function expire_lease(id)
  local item = hash(P .. 'i:' .. id)
  if not item.tk then return end
  expired = expired + 1
  tally_shard('expired', 1)
  end_lease(id, item, item.c and FAILED or ERRORED)
  give_back(id, item, true)
end

-- Behind all that is due now.
local function put_off(member)
  call('ZADD', timers_with(member), now, member)
  wake_wanted = true
end

-- Whether the run may be ended yet.
local function has_room(run, member)
  local size = call('SCARD', P .. 'ri:' .. run)
  if ended > 0 and ended + size > ENDED_AT_ONCE then
    put_off(member)
    return false
  end
  ended = ended + size
  return true
end

local function let_go(id, member)
  local about = call('HMGET', P .. 'gh:' .. id, 'k', 'e', 'fn', 'g')
  if not about[1] then return end
  if #gathered == GATHERED_AT_ONCE then return put_off(member) end
  close_gathering(id, about[4])
  gathered[#gathered + 1] = {id, about[1], about[2], about[3], call('LRANGE', P .. 'ge:' .. id, 0, -1)}
  call('ZADD', timers_with(member), now + RETRY_MS, member)
end

-- What is listed in the hash of that name is to go on.
local function go_on_with(list, hash_name, id, member)
  local env, job = string.match(id, '^(.*)/([^/]*)$')
  if call('HEXISTS', P .. hash_name .. env, job) == 0 then return end
  list[#list + 1] = {env, job}
  call('ZADD', timers_with(member), now + RETRY_MS, member)
end

-- Of both sets the earliest, and where they are; what is due at the same time comes in the same order always.
local function take_due()
  local taken, from = {}, {}
  local one, other = P .. 'timers', P .. 'timers2'
  local a = call('ZRANGEBYSCORE', one, '-inf', now, 'WITHSCORES', 'LIMIT', 0, request.n)
  local b = call('ZRANGEBYSCORE', other, '-inf', now, 'WITHSCORES', 'LIMIT', 0, request.n)
  local i, j = 1, 1
  while #taken < request.n and (a[i] or b[j]) do
    local is_first = not b[j]
    if a[i] and b[j] then
      local at, other_at = tonumber(a[i + 1]), tonumber(b[j + 1])
      is_first = at < other_at or at == other_at and string.byte(a[i]) < string.byte(b[j])
    end
    if is_first then
      taken[#taken + 1], from[#from + 1] = a[i], one
      i = i + 2
    else
      taken[#taken + 1], from[#from + 1] = b[j], other
      j = j + 2
    end
  end
  return taken, from
end

local due, from = take_due()
for n, member in ipairs(due) do
  call('ZREM', from[n], member)
  local tag, id = string.sub(member, 1, 1), string.sub(member, 2)
  if tag == 'i' then
    local item = call('HMGET', P .. 'i:' .. id, 'p', 'o')
    if item[1] then enqueue(id, item[1], item[2]) end
  elseif tag == 'L' then
    expire_lease(id)
  elseif tag == 'w' then
    local pause = hash(P .. 'w:' .. id)
    if pause.k == 'cancel' then remove_pause(id, pause) elseif pause.k then resolve(id, pause.to) end
  elseif tag == 'T' then
    settle(id)
  elseif tag == 'C' then
    local slot = call('HGET', P .. 'cron:' .. id, 'slot')
    if slot then
      crons[#crons + 1] = {id, slot}
      call('ZADD', P .. 'timers', now + RETRY_MS, member)
    end
  elseif tag == 'O' then
    if has_room(id, member) then start_is_late(id) end
  elseif tag == 'F' then
    if has_room(id, member) then finish_is_late(id) end
  elseif tag == 'G' then
    let_go(id, member)
  elseif tag == 'J' then
    go_on_with(sweeps, 'cx:', id, member)
  elseif tag == 'R' then
    go_on_with(replays, 'rpl:', id, member)
  elseif tag == 'K' then
    watch = 1
    call('ZADD', timers_with(member), now + RETRY_MS, member)
  else
    -- A later version's: it must be there for that one.
    call('ZADD', from[n], now + RETRY_MS, member)
  end
end
if #due == request.n then wake_wanted = true end

-- What is no longer kept. It hurts nobody a little later, so nobody is woken for it.
for _, env in ipairs(call('ZRANGEBYSCORE', P .. 'forget', '-inf', now, 'LIMIT', 0, FORGETTING_AT_ONCE)) do
  forget_runs(env)
end

go_on_looking()

local leased = {}
if request.want then leased = lease_some(request.want) end
close_shard()
return {call('GET', P .. 'regver') or '0', next_timer() or '', leased, crons, expired, digits(clock_now),
  gathered, sweeps, replays, fullness() >= SHED_AT and 1 or 0, watch}
