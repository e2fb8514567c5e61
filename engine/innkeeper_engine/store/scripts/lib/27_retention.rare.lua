-- How long what is over is kept. keeps: environments for which the installation's default is not, each
-- "<events s> <runs s>" with 0 for the default; written with their records. A branch has its parent's.
-- request.keep: {events s, runs s}, the default.

-- Sent again within this time, an event must be found, or it would count twice.
local SHORTEST_EVENTS_S = 3600

local kept = {}
-- {events s, runs s} of an environment.
local function keep_of(env)
  local keep = kept[env]
  if not keep then
    local own = call('HGET', P .. 'keeps', string.match(env, '^[^~]*'))
    local events, runs = string.match(own or '', '^(%d+) (%d+)$')
    events, runs = tonumber(events or 0), tonumber(runs or 0)
    keep = {math.max(SHORTEST_EVENTS_S, events > 0 and events or request.keep[1]), runs > 0 and runs or request.keep[2]}
    kept[env] = keep
  end
  return keep
end

local function events_keep_s(env) return keep_of(env)[1] end
local function runs_keep_s(env) return keep_of(env)[2] end
