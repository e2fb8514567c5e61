-- backlog: of each function, how many runs have not begun, how many have and go on, and since when the oldest of those that
-- have not begun is due (ms, '' for none). Whatever stands before it and has ended is put where it belongs.
local answers = {}
for n, fn in ipairs(request.functions) do
  answers[n] = {call('SCARD', P .. 'rq:' .. fn), call('SCARD', P .. 'rb:' .. fn), oldest(fn)}
end
close_shard()
return answers
