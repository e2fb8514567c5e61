-- emit: 2 env, 3 id, 4 name, 5 body, 6 trace or ''. An event of the engine's own, into the environment's stream.
effects.emit = function(e) emit(e[2], e[3], e[4], e[5], e[6]) end

-- keep: 2 env, 3 id, 4 body. An event that is only to be looked up (a cron's): it is not routed.
effects.keep = function(e)
  call('SET', P .. 'ev:' .. e[2] .. ':' .. e[3], event_value(0, e[4]), 'EX', events_keep_s(e[2]))
end

-- note: 2 run, 3 text. History; never read by the engine.
effects.note = function(e) note(e[2], e[3]) end

-- retry: 2 item, 3 attempt, 4 due ms. The same item again; its lease ends with the script.
effects.retry = function(e)
  call('HSET', P .. 'i:' .. e[2], 'a', e[3], 'x', 0)
  retry_at = e[4]
end

-- touch: 2 item. A checkpoint went through: what decides on an older picture must look again, attempts start anew.
effects.touch = function(e)
  call('HINCRBY', P .. 'i:' .. e[2], 'v', 1)
  call('HSET', P .. 'i:' .. e[2], 'a', 0)
end

-- arm: 2 cron, 3 next slot ms, 4 when it is due.
effects.arm = function(e)
  call('HSET', P .. 'cron:' .. e[2], 'slot', e[3])
  set_timer('C' .. e[2], e[4])
end

-- fold: 2 run, 3 notes. History, as the recorder keeps it; only while the run or its summary is there.
effects.fold = function(e)
  tally_shard('folded', #e[3])
  local ttl = call('TTL', P .. 'run:' .. e[2])
  if ttl == -2 then return end
  call('RPUSH', P .. 'h:' .. e[2], unpack(e[3]))
  if ttl >= 0 then call('EXPIRE', P .. 'h:' .. e[2], ttl) end
end
