-- count: what functions have to do and have done. Reply: per function {queued, running, completed, failed, ms of the
-- newest run or ''}; completed and failed in this hour and the 23 before it.
local this_hour = math.floor(now / 3600000)
local answers = {}

-- Runs that a version without this index has ended: some of them go each time that somebody looks.
local LOOKED_AT = 16
local function size_of(key)
  local size = call('SCARD', key)
  if size > 0 then
    for _, run in ipairs(call('SRANDMEMBER', key, LOOKED_AT)) do
      if not is_live(run) then size = size - call('SREM', key, run) end
    end
  end
  return size
end

for n, fn in ipairs(request.functions) do
  local done, last = {c = 0, f = 0}, ''
  for field, value in pairs(hash(P .. 'rc:' .. fn)) do
    local kind, hour = string.sub(field, 1, 1), tonumber(string.sub(field, 2))
    if kind == 'l' then
      last = value
    elseif done[kind] and hour > this_hour - HOURS then
      done[kind] = done[kind] + value
    end
  end
  answers[n] = {size_of(P .. 'rq:' .. fn), size_of(P .. 'rb:' .. fn), done.c, done.f, last}
end
close_shard()
return answers
