-- again: 2 run, 3 the run that it is once more, 4 replay or '', 5 with how many results of that one it begins, 6 the step
-- that its first request asks for or '', 7 edited input or '', 8 notes. Once per run, whether it begins or is skipped.
effects.again = function(e)
  local run, of = e[2], e[3]
  local summary = P .. 'run:' .. run
  if call('EXISTS', summary) == 0 or call('HSETNX', summary, 'of', of) == 0 then return end
  if e[4] ~= '' then call('HSET', summary, 'rp', e[4]) end
  for _, text in ipairs(e[8]) do note(run, text) end
  if not is_live(run) then return end
  if e[5] > 0 then
    inherit(run, inherited or first_results(of, e[5]) or error('the results of the run ' .. of .. ' are not kept'))
  end
  if e[7] ~= '' then
    call('HSET', P .. 'pl:' .. run, ':i', e[7])
    has_more(run, raw_length(e[7]), #e[7])
  end
  if e[6] ~= '' then call('HSET', P .. 'i:' .. run .. '.0', 's', e[6]) end
end
