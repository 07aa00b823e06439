-- What all but the first parts of scripts need: see head.lua.
local version_key = KEYS[5]
local now = time()

-- short is the field and the expiry of a fence's one token, where it has the short form.
local short

-- control drops the tokens that are past their expiry (which makes the fence dirty) and
-- answers what is left: 'none', 'lease', or 'fence' with the number of live tokens, the
-- latest expiry among them, and its fields by name. A fence without a live token is none.
local function control()
  local text, fields = held(), nil
  if not text then
    fields = redis.call('HGETALL', ctl)
    if #fields == 0 then return 'none', 0, 0 end
  elseif string.sub(text, 1, 2) == 'f:' then
    short = {'t:' .. string.sub(text, 3), now + redis.call('PTTL', ctl)}
    fields = short
  else
    return 'lease', 0, 0
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
    short = nil
    return 'none', 0, 0
  end
  for i = 1, #dead do redis.call('HDEL', ctl, dead[i]) end
  if #dead > 0 then
    redis.call('HSET', ctl, 'dirty', '1')
    marks.dirty = '1'
  end
  return 'fence', live, longest, marks
end

-- mark sets fields of a fence, which has the long form from then on and lives until the given time. That is set last: it
-- may have come by now, and whatever is set on a fence that has ended would live for ever.
local function mark(ends, ...)
  if short then
    redis.call('DEL', ctl)
    redis.call('HSET', ctl, short[1], ms(short[2]), ...)
    short = nil
  else
    redis.call('HSET', ctl, ...)
  end
  redis.call('PEXPIREAT', ctl, ms(ends))
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
  if format == 'envelope' then return envelope(ttl, head, now, tail, payload) end
  if format == 'hash' then
    redis.call('HSET', key, 'data', payload, 'version', string.sub(head, 13, 36), 'written_at', ms(now),
      'checksum', string.sub(tail, 14, 21), 'schema', string.sub(tail, 34, 41))
    redis.call('PEXPIRE', key, ttl)
    return
  end
  if format == 'versioned' then
    redis.call('SET', version_key, payload, 'PX', ms(tonumber(ttl) + grace))
    redis.call('SET', pointer, version_key, 'PX', ttl)
  else
    redis.call('SET', key, payload, 'PX', ttl)
  end
  redis.call('SET', meta, head .. ms(now) .. tail, 'PX', ttl)
end
