-- append: events into an environment's stream. Where the sender gave a seed, an event that is stored already is the
-- first attempt of the same send: nothing is stored again. Reply: how many were stored.
if fullness() >= REFUSE_AT then
  close_shard()
  return redis.error_reply('OOM ' .. REFUSE_AT * 100 .. ' % of maxmemory is used: no events are accepted, so that runs can end')
end
local stored = 0
for _, event in ipairs(request.events) do
  if not request.seeded or call('EXISTS', P .. 'ev:' .. request.env .. ':' .. event[1]) == 0 then
    emit(request.env, event[1], event[2], event[3], request.trace)
    stored = stored + 1
  end
end
close_shard()
return stored
