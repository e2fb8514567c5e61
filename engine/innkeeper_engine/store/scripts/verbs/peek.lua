-- peek: the next events of an environment that has some, and by which paths its waits are indexed. Writes nothing but
-- the clock. Their bodies together have about MOST_BYTES at most, so that no reply holds the server up.
-- Reply: {registry version, env, cursor, position within the first event, {{id, name, value, {paths}}}}.
local env = call('ZRANGE', P .. 'routes', 0, 0)[1]
if not env then return {call('GET', P .. 'regver') or '0'} end
local MOST_BYTES = 4 * 1024 * 1024
local events, size = {}, 0
for n, entry in ipairs(call('LRANGE', P .. 'es:' .. env, 0, request.n - 1)) do
  local id, name = string.sub(entry, 1, ID_LENGTH), string.sub(entry, ID_LENGTH + 1)
  local body = call('GET', P .. 'ev:' .. env .. ':' .. id)
  events[n] = {id, name, body, call('HKEYS', P .. 'wp:' .. env .. ':' .. name)}
  size = size + (body and event_size(body, #body) or 0)
  if size > MOST_BYTES then break end
end
close_shard()
return {call('GET', P .. 'regver') or '0', env, tonumber(call('GET', P .. 'ec:' .. env) or '0'),
  call('GET', P .. 'ew:' .. env) or '', events}
