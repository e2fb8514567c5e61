-- beat: one heartbeat for all leases of an executor. Reply: {tokens that are no longer its own, tokens of ended runs}.
local lost, ended, executor = {}, {}, nil
for _, lease in ipairs(request.leases) do
  local item = call('HMGET', P .. 'i:' .. lease[1], 'tk', 'c', 'ex')
  if item[1] ~= lease[2] then
    lost[#lost + 1] = lease[2]
  else
    executor = item[3]
    if item[2] then ended[#ended + 1] = lease[2] end
    call('ZADD', P .. 'timers', 'XX', now + request.lease_ms, 'L' .. lease[1])
  end
end
if executor then call('ZADD', P .. 'xs', now, executor) end
close_shard()
return {lost, ended}
