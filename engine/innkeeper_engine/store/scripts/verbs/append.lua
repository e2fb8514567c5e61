-- append: events into an environment's stream. Where the sender gave a seed, an event that is stored already is the
-- first attempt of the same send: nothing is stored again. Reply: how many were stored.
if fullness() >= REFUSE_AT then
  close_shard()
  return redis.error_reply('OOM ' .. REFUSE_AT * 100 .. ' % of maxmemory is used: no events are accepted, so that runs can end')
end
local events = request.events
if request.seeded then
  local seen = {}
  events = {}
  for _, event in ipairs(request.events) do
    if not seen[event[1]] and call('EXISTS', P .. 'ev:' .. request.env .. ':' .. event[1]) == 0 then
      seen[event[1]] = true
      events[#events + 1] = event
    end
  end
end
if events[1] then emit_all(request.env, events, request.trace) end
close_shard()
return #events
