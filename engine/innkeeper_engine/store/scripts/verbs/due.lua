-- due(n, want): move what is due, look again at some of those who wait at limits that have changed, then lease.
-- Reply: {registry version, next timer ms or '', leased, crons {id, slot}, expired leases, the server's clock ms}.
local crons, expired = {}, 0
local due = call('ZRANGEBYSCORE', P .. 'timers', '-inf', now, 'LIMIT', 0, request.n)
local CRON_RETRY_MS = 5000

local function expire_lease(id)
  local item = hash(P .. 'i:' .. id)
  if not item.tk then return end
  expired = expired + 1
  end_lease(id, item)
  if item.c or call('EXISTS', P .. 'st:' .. item.r) == 0 then
    drop_item(id, item.r)
  else
    call('HINCRBY', P .. 'i:' .. id, 'x', 1)
    requeue(id, item)
  end
end

for _, member in ipairs(due) do
  call('ZREM', P .. 'timers', member)
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
      -- Whoever decides on it arms the next slot; if nobody lives to do so, it comes up again.
      call('ZADD', P .. 'timers', now + CRON_RETRY_MS, member)
    end
  end
end
if #due == request.n then wake_wanted = true end

go_on_looking()

local leased = {}
if request.want then leased = lease_some(request.want) end
close_shard()
local first = call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')
return {call('GET', P .. 'regver') or '0', first[2] or '', leased, crons, expired, digits(clock_now)}
