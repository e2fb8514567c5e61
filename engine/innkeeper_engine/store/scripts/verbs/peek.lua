-- peek: the next events of an environment that has some, and by which paths its waits are indexed. Writes nothing but
-- the clock. Reply: {registry version, env, cursor, position within the first event, {{id, name, value, {paths}}}}.
local env = call('ZRANGE', P .. 'routes', 0, 0)[1]
if not env then return {call('GET', P .. 'regver') or '0'} end
local events = {}
for n, entry in ipairs(call('LRANGE', P .. 'es:' .. env, 0, request.n - 1)) do
  local id, name = string.sub(entry, 1, ID_LENGTH), string.sub(entry, ID_LENGTH + 1)
  events[n] = {id, name, call('GET', P .. 'ev:' .. env .. ':' .. id), call('HKEYS', P .. 'wp:' .. env .. ':' .. name)}
end
close_shard()
return {call('GET', P .. 'regver') or '0', env, tonumber(call('GET', P .. 'ec:' .. env) or '0'),
  call('GET', P .. 'ew:' .. env) or '', events}
