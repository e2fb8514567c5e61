-- backlog: of each function, how many runs have not begun, how many have and go on, and when the oldest of those that have
-- not begun was made (ms, '' for none). Writes nothing.
local answers = {}
for n, fn in ipairs(request.functions) do
  local oldest = call('ZRANGE', status_list('Scheduled', fn), 0, 0, 'WITHSCORES')
  answers[n] = {call('SCARD', P .. 'rq:' .. fn), call('SCARD', P .. 'rb:' .. fn), oldest[2] or ''}
end
return answers
