-- Shared head of every script: it is put before each of them when they are loaded.
--
-- KEYS[1] -> the key
-- KEYS[2] -> its control key: a string is a lease (the reader's nonce), a hash is a fence
--            (t:<token> = expiry in ms by this server's clock, floor = version, dirty = 1)
-- KEYS[3] -> its meta sibling: the header of a plain or versioned entry
-- KEYS[4] -> its pointer (format versioned), which holds the name of a version key
-- KEYS[5] -> the version key to write, given where a versioned payload may be stored
-- All lie in one slot. lease alone reads a key that is not declared: the version key that
-- the pointer names, which no caller can know.
local key, ctl, meta = KEYS[1], KEYS[2], KEYS[3]
local pointer, version_key = KEYS[4], KEYS[5]

-- The server's clock decides, never a client's. Milliseconds fit a double exactly.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- ms spells a number of milliseconds without an exponent.
local function ms(n)
  return string.format('%.0f', n)
end

-- control drops the tokens that are past their expiry (which makes the fence dirty) and
-- answers what is left: 'none', 'lease', or 'fence' with the number of live tokens, the
-- latest expiry among them, and its fields by name. A fence without a live token is none.
-- Who expects a fence has it read at once; for a lease that would be an error, which Redis
-- counts.
local function control(expected)
  local fields = expected and redis.pcall('HGETALL', ctl)
  if not fields or #fields == 0 then
    local kind = redis.call('TYPE', ctl).ok
    if kind == 'none' then return 'none', 0, 0 end
    if kind == 'string' then return 'lease', 0, 0 end
    fields = redis.call('HGETALL', ctl)
  end
  local live, longest, dead, marks = 0, 0, {}, {}
  for i = 1, #fields, 2 do
    local name = fields[i]
    if string.sub(name, 1, 2) == 't:' then
      local expiry = tonumber(fields[i + 1])
      if expiry > now then
        live = live + 1
        marks[name] = expiry
        if expiry > longest then longest = expiry end
      else
        dead[#dead + 1] = name
      end
    else
      marks[name] = fields[i + 1]
    end
  end
  if live == 0 then
    redis.call('DEL', ctl)
    return 'none', 0, 0
  end
  for i = 1, #dead do redis.call('HDEL', ctl, dead[i]) end
  if #dead > 0 then
    redis.call('HSET', ctl, 'dirty', '1')
    marks.dirty = '1'
  end
  return 'fence', live, longest, marks
end

-- older: does version a come before version b? Lua orders strings by the server's locale
-- and its numbers lose bits past 2^53, so three pieces of 32 bits are compared. The empty
-- version comes before every other.
local function older(a, b)
  for at = 1, 17, 8 do
    local x = tonumber(string.sub(a, at, at + 7), 16) or -1
    local y = tonumber(string.sub(b, at, at + 7), 16) or -1
    if x ~= y then return x < y end
  end
  return false
end

-- hash_version reads the version of a hash, nil where the hash is not ours.
local function hash_version()
  local version = redis.pcall('HGET', key, 'version')
  if type(version) == 'string' and #version == 24 and string.match(version, '^%x+$') then return version end
  return nil
end

-- pointed gives the version key that the pointer names. It is nil where there is none,
-- and where the pointer's name is in use for something that is not ours.
local function pointed()
  local name = redis.pcall('GET', pointer)
  if type(name) ~= 'string' then return nil end
  local names = string.sub(pointer, 1, -8) .. 'v'
  local version = string.match(string.sub(name, #names + 1), '^(%x+)')
  if string.sub(name, 1, #names) == names and version and #version == 24 then return name end
  return nil
end

-- stored_version reads the version at its fixed offset, nil where the value is not ours.
local function stored_version()
  local from = key
  if redis.call('EXISTS', meta) == 1 then from = meta end
  local head = redis.pcall('GETRANGE', from, 0, 50)
  if type(head) ~= 'string' then return hash_version() end
  local version = string.match(head, '^{"version":"(%x+)","written_at":$')
  if version and #version == 24 then return version end
  return nil
end

-- unpoint deletes the pointer, and spares what it points to: a reader may stand between
-- its two reads. Old versions expire.
local function unpoint()
  if pointed() then redis.call('DEL', pointer) end
end

-- remove makes the entry absent in whatever format it is, and deletes the control key with it
-- where that is given.
local function remove(...)
  redis.call('DEL', key, meta, ...)
  unpoint()
end

-- A version key outlives every pointer to it by this much (ms), so that whoever has read
-- a pointer finds what it named.
local grace = 60000

-- store writes the value where remove has left no other format of it. The header is head ..
-- written_at .. tail: before the payload in an envelope, alone in the meta sibling of a
-- plain or versioned entry. A hash has its parts as fields, cut out at their fixed offsets.
local function store(format, ttl, head, tail, payload)
  local header = head .. ms(now) .. tail
  if format == 'plain' then
    redis.call('SET', key, payload, 'PX', ttl)
    redis.call('SET', meta, header, 'PX', ttl)
  elseif format == 'hash' then
    redis.call('HSET', key, 'data', payload, 'version', string.sub(head, 13, 36), 'written_at', ms(now),
      'checksum', string.sub(tail, 14, 21), 'schema', string.sub(tail, 34, 41))
    redis.call('PEXPIRE', key, ttl)
  elseif format == 'versioned' then
    redis.call('SET', version_key, payload, 'PX', ms(tonumber(ttl) + grace))
    redis.call('SET', meta, header, 'PX', ttl)
    redis.call('SET', pointer, version_key, 'PX', ttl)
  else
    redis.call('SET', key, header .. payload .. '}', 'PX', ttl)
  end
end
