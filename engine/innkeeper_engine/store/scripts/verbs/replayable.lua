-- replayable: some of the runs of an environment that were made in a window, in that order: those of one function that
-- ended so, with their events. Writes nothing. Request: env, slug, statuses, replay, at (ms), last (run or ''), until (ms),
-- most. Reply: {looked at, ms of the last, the last, whether it was the last, {{run, cron, {event id, body, ...}, ms, looked at by then}}};
-- the events of a run are left out where one is not kept any more.
local MOST_BYTES = 4 * 1024 * 1024
local env, key = request.env, P .. 'runs:' .. request.env
local wanted = {}
for _, status in ipairs(request.statuses) do wanted[status] = true end

-- Those after the last one; where that is gone, those of its time once more: a run is replayed once all the same.
local function page()
  local rank = request.last ~= '' and call('ZRANK', key, request.last)
  if rank then return call('ZRANGE', key, rank + 1, rank + request.most, 'WITHSCORES') end
  return call('ZRANGEBYSCORE', key, digits(request.at), '+inf', 'WITHSCORES', 'LIMIT', 0, request.most)
end

local function events_of(run, ids)
  local flat, bytes, n = {}, 0, 0
  for id in string.gmatch(ids, '%S+') do
    local body = call('HGET', P .. 'pl:' .. run, 'e:' .. n) or event_of(env, id)
    if not body then return {}, 0 end
    n = n + 1
    bytes = bytes + raw_length(body)
    flat[#flat + 1] = id
    flat[#flat + 1] = body
  end
  return flat, bytes
end

local found, looked, bytes = {}, 0, 0
local at, last, is_last = digits(request.at), request.last, true
local runs = page()
for n = 1, #runs, 2 do
  local run = runs[n]
  if tonumber(runs[n + 1]) >= request.until_ms then break end
  looked, at, last = looked + 1, runs[n + 1], run
  local about = call('HMGET', P .. 'run:' .. run, 'f', 's', 'rp', 'ev', 'cr')
  if about[1] == request.slug and wanted[about[2]] and about[3] ~= request.replay then
    local events, size = events_of(run, about[4])
    found[#found + 1] = {run, about[5], events, at, looked}
    bytes = bytes + size
    if bytes > MOST_BYTES then
      is_last = false
      break
    end
  end
  if looked == request.most then is_last = false end
end
return {looked, at, last, is_last and 1 or 0, found}
