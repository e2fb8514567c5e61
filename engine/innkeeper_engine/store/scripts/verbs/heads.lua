-- heads: of each run, when it was made and its first event (where request.bodies), or nothing where it has ended. Writes
-- nothing. No more runs than fit into about MOST_BYTES, at least one. Reply: {{queued ms, body or ''} or {}}.
local MOST_BYTES = 4 * 1024 * 1024
local heads, size = {}, 0
for n, run in ipairs(request.runs) do
  local queued = call('HGET', P .. 'st:' .. run, 'q')
  local body = queued and request.bodies and call('HGET', P .. 'pl:' .. run, 'e:0') or ''
  heads[n] = queued and {queued, body} or {}
  size = size + #body
  if size > MOST_BYTES then break end
end
return heads
