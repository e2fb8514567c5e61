-- The shard: its clock, its turn counter, its timers, and what wakes who sleeps.
-- KEYS[1] is the prefix of every key of the shard and carries its hash tag, so a script stays on one node.
local P = KEYS[1]
local call = redis.call

-- Lua prints large numbers as 1.79e+12; keys and replies need the digits.
local function digits(n) return string.format('%.0f', n) end

-- now: ms since the epoch, never less than the shard's last. A given clock is for the test harness alone.
local now
if ARGV[1] ~= '' then
  if string.sub(P, 1, 6) ~= '{test-' then
    return redis.error_reply('ERR a given clock is only taken under a prefix that begins with {test-')
  end
  now = tonumber(ARGV[1])
else
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local clock_now = now
local clock = call('HMGET', P .. 'clock', 'now', 'turn')
local last_now, last_turn = tonumber(clock[1] or '0'), tonumber(clock[2] or '0')
if now < last_now then now = last_now end

local request = cmsgpack.unpack(ARGV[2])

-- A hash as a table.
local function hash(key)
  local flat, t = call('HGETALL', key), {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end

-- The members of a set in an order that does not depend on the server: what follows from it can be repeated.
local function members(key)
  local found = call('SMEMBERS', key)
  table.sort(found)
  return found
end

-- Turns order who joined a ring when: the time, and strictly increasing inside one millisecond.
local turn
local function next_turn()
  local t = turn or last_turn
  if now > t then t = now else t = t + 0.0009765625 end
  turn = t
  return t
end

-- Places of runs in lists, in the same way. They say when a run was made to people, not to the scheduler.
local listed
local function next_place()
  local at = listed or tonumber(call('HGET', P .. 'clock', 'listed') or '0')
  listed = now > at and now or at + 0.0009765625
  return string.format('%.17g', listed)
end

-- What is due when. Whatever a version without flow control finds due and does not know, it drops: such timers are in a
-- set that it does not look at.
local LATER_KINDS = 'GOFJRK'
local function timers_with(member)
  return P .. (string.find(LATER_KINDS, string.sub(member, 1, 1), 1, true) and 'timers2' or 'timers')
end

local function clear_timer(member) call('ZREM', timers_with(member), member) end

-- When the next is due, as a text; nil where there is none.
local function next_timer()
  local first = call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2]
  local other = call('ZRANGE', P .. 'timers2', 0, 0, 'WITHSCORES')[2]
  if first and other then return tonumber(first) <= tonumber(other) and first or other end
  return first or other
end

-- Idle executors sleep until the next timer, 5 s at most; one that comes sooner than all others must wake one.
-- With `only_earlier`, a timer that is set already is not put off.
local HORIZON_MS = 5000
local wake_wanted = false
local function set_timer(member, at, only_earlier)
  if at < now + HORIZON_MS and not wake_wanted then
    local first = next_timer()
    if not first or at < tonumber(first) then wake_wanted = true end
  end
  local timers = timers_with(member)
  if only_earlier then call('ZADD', timers, 'LT', at, member) else call('ZADD', timers, at, member) end
end

local function wake_router()
  if call('LLEN', P .. 'rwake') == 0 then call('RPUSH', P .. 'rwake', '1') end
end
