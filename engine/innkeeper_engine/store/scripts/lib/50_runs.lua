-- Runs. run:<run> summary (kept for the retention; k how long that is, in s), pl:<run> payloads (events e:<n>, results by
-- step id, output o, error x, the order of results :k, edited input :i; kept for the retention), st:<run> engine state,
-- sk:<run> step ids as they completed, pd:<run> the steps that a parallel group waits for. The last three go when the run
-- ends. sg:<key> is the run that holds a singleton.
-- Pauses, w:<pause>: r run, s step, k kind (sleep, event, invoke, signal, cancel), e env, n what is waited for,
-- i index key, to the result when its time is over.

local function note(run, text)
  call('XADD', P .. 'hist', 'MAXLEN', '~', request.notes, '*', 'r', run, 'n', text)
end

-- A decision is made on a picture: what an earlier effect of the same script ended has ended.
local function is_live(run) return call('EXISTS', P .. 'st:' .. run) == 1 end

-- sz: bytes of its events and results as they were sent, for limits; sv: how many of them compression saves.
local function has_more(run, raw, stored)
  call('HINCRBY', P .. 'st:' .. run, 'sz', raw)
  if raw ~= stored then call('HINCRBY', P .. 'st:' .. run, 'sv', raw - stored) end
end

local function record(run, step, data)
  if call('HSETNX', P .. 'pl:' .. run, step, data) == 0 then return false end
  call('RPUSH', P .. 'sk:' .. run, step)
  has_more(run, raw_length(data), #data)
  return true
end

-- One more request that runs the function from the top; one that waits already will do.
local function discover(run)
  local skey = P .. 'st:' .. run
  local state = call('HMGET', skey, 'dq', 'sp', 'o', 'dn', 'b', 'od')
  -- A run that is overdue begins nothing any more.
  if state[1] or not state[2] or state[6] then return end
  local n = state[4] + 1
  local id = run .. '.' .. n
  call('HSET', skey, 'dq', id, 'dn', n)
  new_item(id, run, 'd', 'step', state[2], state[3], nil, nil, state[5])
end

-- A step is over: the last of a parallel group, or a step of its own, calls the function again.
local function go_on(run, step)
  local member = call('SREM', P .. 'pd:' .. run, step) == 1
  if member then
    if call('EXISTS', P .. 'pd:' .. run) == 1 then return end
    call('HSET', P .. 'st:' .. run, 'fp', 0)
  end
  discover(run)
end
