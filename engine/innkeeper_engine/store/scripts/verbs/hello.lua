-- hello: an executor says what it is working on; what else is leased to it goes back at once, no attempt counted. xs are
-- executors by when they said so, or beat, last.
-- Reply: how many went back.
local known, back = {}, 0
for _, token in ipairs(request.tokens) do known[token] = true end
for _, id in ipairs(call('SMEMBERS', P .. 'x:' .. request.executor)) do
  local item = hash(P .. 'i:' .. id)
  if not item.tk then
    call('SREM', P .. 'x:' .. request.executor, id)
  elseif not known[item.tk] then
    end_lease(id, item, item.c and FAILED or ERRORED)
    give_back(id, item)
    back = back + 1
  end
end
call('ZADD', P .. 'xs', now, request.executor)
rearm_replays()
close_shard()
return back
