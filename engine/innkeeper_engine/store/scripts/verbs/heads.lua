-- heads: of each run, when it was made and its first event (where request.bodies), or nothing where it has ended. Writes
-- nothing. No more runs than fit into about MOST_BYTES, at least one. Reply: {{made ms, body or ''} or {}}.
local MOST_BYTES = 4 * 1024 * 1024
local heads, size = {}, 0
for n, run in ipairs(request.runs) do
  local times = call('HMGET', P .. 'st:' .. run, 'm', 'q')
  local made = times[1] or times[2]
  local body = made and request.bodies and call('HGET', P .. 'pl:' .. run, 'e:0') or ''
  heads[n] = made and {made, body} or {}
  size = size + raw_length(body)
  if size > MOST_BYTES then break end
end
return heads
