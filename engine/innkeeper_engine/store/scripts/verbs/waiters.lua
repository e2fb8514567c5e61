-- waiters: candidate pauses by index key, for events numbered `seq`: only waits committed before. A query is
-- {name, path, value, seq, after this pause or '', limit}. Reply: per query {{pause, run, step, kind, condition}}.
local answers = {}
for n, q in ipairs(request.queries) do
  local key = P .. 'wi:' .. request.env .. ':' .. q[1] .. '\1' .. q[2] .. '\1' .. q[3]
  local from = 0
  if q[5] ~= '' then
    local rank = call('ZRANK', key, q[5])
    if rank then from = rank + 1 end
  end
  local found = {}
  local members = call('ZRANGE', key, from, from + q[6] - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    if tonumber(members[i + 1]) >= q[4] then break end
    local w = call('HMGET', P .. 'w:' .. members[i], 'r', 's', 'k', 'x')
    found[#found + 1] = {members[i], w[1], w[2], w[3], w[4]}
  end
  answers[n] = found
end
return answers
