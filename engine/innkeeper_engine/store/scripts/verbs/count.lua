-- count: what functions have to do and have done. Reply: per function {queued, running, completed, failed, ms of the
-- newest run or ''}; completed and failed in this hour and the 23 before it.
local this_hour = math.floor(now / 3600000)
local answers = {}
for n, fn in ipairs(request.functions) do
  local done, last = {c = 0, f = 0}, ''
  for field, value in pairs(hash(P .. 'rc:' .. fn)) do
    local kind, hour = string.sub(field, 1, 1), tonumber(string.sub(field, 2))
    if kind == 'l' then last = value
    elseif done[kind] and hour > this_hour - 24 then done[kind] = done[kind] + value end
  end
  answers[n] = {call('SCARD', P .. 'rq:' .. fn), call('SCARD', P .. 'rb:' .. fn), done.c, done.f, last}
end
return answers
