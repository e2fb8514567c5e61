-- list_runs: a page of an environment's runs, newest first. env, fns (those of these functions; none: of all), statuses
-- (none: all), before (a score, exclusive, or ''), after ms, limit, budget: runs that are looked at, bodies: whether payloads
-- come along, no more than about MOST_BYTES hold. Reply: {{{score, run, summary, {first event, output, error} or {}}}, score
-- to go on with, or ''}. What is gone leaves the lists.
local MOST_BYTES = 4 * 1024 * 1024
local before = request.before == '' and '+inf' or '(' .. request.before
local after = digits(request.after)
local wanted = {}
for _, status in ipairs(request.statuses) do wanted[status] = true end
local any = next(wanted) == nil

local sources = {}
if #request.fns == 0 then
  sources[1] = {key = P .. 'runs:' .. request.env}
else
  for _, slug in ipairs(request.fns) do
    for status in pairs(LISTED_AS) do
      if any or wanted[status] then
        sources[#sources + 1] = {key = status_list(status, request.env .. '/' .. slug)}
      end
    end
  end
end

-- The next of a list. Of many few are looked at further than their first, so that more come each time.
local function fill(source, count)
  source.count = count
  source.runs = call('ZREVRANGEBYSCORE', source.key, source.from or before, after, 'WITHSCORES', 'LIMIT', 0, count)
  source.at = 1
  source.score = tonumber(source.runs[2])
end

local function advance(source)
  source.from = '(' .. source.runs[source.at + 1]
  source.at = source.at + 2
  source.score = tonumber(source.runs[source.at + 1])
  if not source.score then fill(source, math.min(request.limit, 4 * source.count)) end
end

local first = #sources == 1 and request.limit or 1
local ready = {}
for _, source in ipairs(sources) do
  fill(source, first)
  if source.score then ready[#ready + 1] = source end
end
-- A page has runs of no more lists than it has runs: of those whose first is newest.
table.sort(ready, function(a, b) return a.score > b.score end)
-- What has gone from one list since may let others in: those wait for the next page.
local cut = ready[request.limit + 1]
while #ready > request.limit do table.remove(ready) end

local function newest()
  local best
  for _, source in ipairs(ready) do
    if source.score and (not best or source.score > best.score) then best = source end
  end
  return best
end

local found, looked, size, last = {}, 0, 0, ''
local source = newest()
while source and #found < request.limit and size <= MOST_BYTES and looked < request.budget do
  if cut and looked > 0 and source.score <= cut.score then break end
  local run, score = source.runs[source.at], source.runs[source.at + 1]
  looked, last = looked + 1, score
  local summary = call('HGETALL', P .. 'run:' .. run)
  local status
  for i = 1, #summary, 2 do
    if summary[i] == 's' then status = summary[i + 1] end
  end
  if not status then
    call('ZREM', source.key, run)
  elseif any or wanted[status] then
    local bodies = request.bodies and call('HMGET', P .. 'pl:' .. run, 'e:0', 'o', 'x') or {}
    for _, body in ipairs(bodies) do size = size + (body and raw_length(body) or 0) end
    found[#found + 1] = {score, run, summary, bodies}
  end
  advance(source)
  source = newest()
end
if not source and not cut then last = '' end
return {found, last}
