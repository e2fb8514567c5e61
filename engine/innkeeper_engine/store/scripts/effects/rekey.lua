-- rekey: 2 item, 3 run, 4 start partition, 5 step partition, 6 order, 7 boost ms. Under the item's lease, which ends with
-- the script: the item waits where it would have been put today, and so will what the run asks for from now on. Items
-- of the run that wait under the old keys are keyed at visits of their own.
local STRANGE_KEYS_MS = 1000
effects.rekey = function(e)
  local run = e[3]
  if e[2] ~= current_item or not is_live(run) then return end
  call('HSET', P .. 'st:' .. run, 'sp', e[5], 'o', e[6], 'b', e[7])
  -- Only a run's first request is throttled.
  local has_begun = call('HEXISTS', P .. 'st:' .. run, 't1') == 1
  -- Who knows other keys than are written here (another version names them otherwise) must not be asked without a pause.
  local known = sig_of(lane_of(e[5])) == (call('HGET', P .. 'f:' .. fn_of(e[5]), 'sig') or '')
  rekeyed = {has_begun and e[5] or e[4], e[6], e[7], not known and now + STRANGE_KEYS_MS or nil}
end
