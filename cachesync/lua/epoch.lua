-- epoch tells since when a server is known as what it is now, and notes it where nobody has
-- yet: the first to ask decides, by the server's own clock. It goes without the prelude.
--
-- KEYS[1] -> the registry, a hash without a life: an identity, or a source of rows, to the
--            time in ms since which it is known; 0 for always
-- ARGV[1] -> the server's identity
-- ARGV[2] -> an earlier identity of the same data, empty for none: its time is taken over
-- ARGV[3] -> the database that rows come from, empty where that is not known
-- ARGV[4] -> the timeline that it was last seen on: 8 hex digits
-- ARGV[5] -> for how many ms after a change of the timeline fills may show the old one
-- ARGV[6] -> for how many ms the server has been what it is, at the least. A registry that knows
--            no server is a new one, and this one's time is since then: nobody has missed it
-- Returns {now, the identity's time, the source's time, the greatest timeline known of it},
-- times as texts.
local registry = KEYS[1]
-- What a server loses it loses in all of its databases: there is one registry, in the first,
-- unless the user may not go there. The caller's connection stays where it is.
redis.pcall('SELECT', 0)
local clock = redis.call('TIME')
local now = string.format('%.0f', tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000))

-- latest_time is the latest that this clock, or that of whom these data come from, has been: what is
-- new is new since then, else entries that were written before the clock was set back would
-- seem younger. Where it cannot be noted for want of memory, nothing can be stored either.
local latest_time = redis.call('HGET', registry, 'clock') or '0'
if tonumber(latest_time) + 1000 <= tonumber(now) then
  redis.pcall('HSET', registry, 'clock', now)
end
local start = now
if tonumber(latest_time) > tonumber(now) then start = latest_time end

-- bound forgets the oldest of what is noted, except what was asked for.
local most, kept = 64, 32
local function bound(mine, yours)
  if redis.call('HLEN', registry) <= most then return end
  local all, fields = redis.call('HGETALL', registry), {}
  for i = 1, #all, 2 do
    if all[i] ~= mine and all[i] ~= yours and all[i] ~= 'clock' then fields[#fields + 1] = {all[i], tonumber(all[i + 1]) or 0} end
  end
  table.sort(fields, function(a, b) return a[2] < b[2] end)
  for i = 1, #fields - kept do redis.call('HDEL', registry, fields[i][1]) end
end

-- known gives the time of a field, which is noted now if it is new.
local function known(field, otherwise)
  local time = redis.call('HGET', registry, field)
  if time then return time end
  redis.call('HSET', registry, field, otherwise)
  return otherwise
end

local fields = redis.call('HKEYS', registry)
local function isSource(field) return string.sub(field, 1, 9) == 'postgres:' end
local begun = string.format('%.0f', tonumber(now) - tonumber(ARGV[6]))
for _, field in ipairs(fields) do
  if not isSource(field) and field ~= 'clock' then begun = start end
end
local before = ARGV[2] ~= '' and redis.call('HGET', registry, ARGV[2])
local since = known(ARGV[1], before or begun)
if ARGV[3] == '' then
  bound(ARGV[1], '')
  return {now, since, '0', ''}
end

-- A database that is seen for the first time has changed nothing unless there was another
-- one. On a greater timeline it may have lost commits whose entries are here.
local prefix = 'postgres:' .. ARGV[3] .. ':'
local latest, others = '', false
for _, field in ipairs(fields) do
  if string.sub(field, 1, #prefix) == prefix then
    local timeline = string.sub(field, #prefix + 1)
    if latest == '' or tonumber(timeline, 16) > tonumber(latest, 16) then latest = timeline end
  elseif isSource(field) then
    others = true
  end
end
local first = '0'
if others then first = start end
if latest ~= '' and tonumber(ARGV[4], 16) > tonumber(latest, 16) then
  first = string.format('%.0f', tonumber(start) + tonumber(ARGV[5]))
end
if latest == '' or tonumber(ARGV[4], 16) > tonumber(latest, 16) then latest = ARGV[4] end
local source = known(prefix .. latest, first)
bound(ARGV[1], prefix .. latest)
return {now, since, source, latest}
