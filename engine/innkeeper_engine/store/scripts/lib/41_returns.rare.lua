-- What a lease needs only where it was not the first of its item, or where state is left out.

-- Out of an executor's hands, into a partition.
local function put_back(id, partition, order, boost, due)
  call('HDEL', P .. 'i:' .. id, 'tk', 'ex', 'rk', 'b')
  if boost and tonumber(boost) ~= 0 then call('HSET', P .. 'i:' .. id, 'b', boost) end
  enqueue(id, partition, order, due)
end

-- Back to the queue after a lease. What has been called once waits among the steps: only starts are throttled. What was
-- leased to be keyed again, and was not, is where it was.
local function requeue(id, item, due)
  if is_to_key(item) then return put_back(id, item.p, item.o, item.b, due) end
  tally(fn_of(item.p), 'q', 1)
  local state = call('HMGET', P .. 'st:' .. item.r, 'sp', 'o', 'b')
  if not state[1] then return put_back(id, item.p, item.o, item.b, due) end
  put_back(id, state[1], state[2], state[3], due)
end

-- The events and some of the results of a run, flat. A planned step is asked for with what there was when it was
-- planned: with all that its siblings have brought since, a group of n steps would cost n * n. A call in Lua has 8,000
-- arguments at most.
local FIELDS_AT_ONCE = 1000
local function payload_of(run, events, stack)
  local fields, flat = {}, {}
  for n = 0, events - 1 do fields[#fields + 1] = 'e:' .. n end
  for _, step in ipairs(stack) do fields[#fields + 1] = step end
  for first = 1, #fields, FIELDS_AT_ONCE do
    local last = math.min(first + FIELDS_AT_ONCE - 1, #fields)
    local values = call('HMGET', P .. 'pl:' .. run, unpack(fields, first, last))
    for n = first, last do
      local value = values[n - first + 1]
      if value then
        flat[#flat + 1] = fields[n]
        flat[#flat + 1] = value
      end
    end
  end
  return flat
end

-- What is leased to be keyed again is not called: its run has not begun by this, who asked for it still waits for the
-- call, and the first event is all that keys are made of.
local function lease_to_key(id, token, generation, item, state, run, inline_bytes)
  call('HSET', P .. 'i:' .. id, 'rk', token)
  item[#item + 1] = 'rk'
  item[#item + 1] = token
  local payload = false
  if call('HSTRLEN', P .. 'pl:' .. run, 'e:0') <= inline_bytes then
    payload = payload_of(run, 1, {})
    if payload[2] and raw_length(payload[2]) > inline_bytes then payload = false end
  end
  return {id, token, generation, item, state, {}, payload, call('LLEN', P .. 'sk:' .. run)}
end
