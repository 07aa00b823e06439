-- lease gives a reader the value, or the right to fill the absent key.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> nonce, fresh for this request
-- ARGV[2] -> life of the lease in ms
-- ARGV[3] -> format: envelope, plain, hash, versioned
-- ARGV[4] -> schema that the reader understands
-- ARGV[5] -> the greatest age in ms that the reader takes, 0 for any
-- ARGV[6] -> the earliest time of writing that it trusts, in ms, 0 for any
-- Returns {'value', …} with what the reader of the format decodes; {'granted'};
-- {'bypass', 'fence'} or {'bypass', 'lease'} under a fence or another's lease; {'foreign'}
-- where the key (or the pointer, in format versioned) holds what is not ours and no string.
-- A value of another schema or format, and one that is too old, counts as absent and makes
-- room for the fill.
if redis.call('EXISTS', key, ctl, meta, pointer) == 0 then
  redis.call('SET', ctl, ARGV[1], 'PX', ARGV[2])
  return {'granted'}
end
-- prelude

-- parts gives the texts of an entry in the order of entry.go's decode, and the schema and
-- the time of writing that they name; nil where the entry is not there in this format.
local function parts(format)
  if format == 'hash' then
    local f = redis.pcall('HMGET', key, 'data', 'version', 'written_at', 'checksum', 'schema')
    if f[1] and f[2] and f[3] and f[4] and f[5] then return f, f[5], f[3] end
    return nil
  end
  local value, name = redis.pcall('GET', key), nil
  local header = value
  if format == 'plain' then header = redis.pcall('GET', meta) end
  if format == 'versioned' then
    name, value, header = pointed(), false, redis.pcall('GET', meta)
    if name then value = redis.pcall('GET', name) end
  end
  if type(value) ~= 'string' or type(header) ~= 'string' then return nil end
  if string.sub(header, 1, 12) ~= '{"version":"' then return nil end
  local schema, written = string.sub(header, 98, 105), string.sub(header, 52, 64)
  if format == 'plain' then return {value, header}, schema, written end
  if format == 'versioned' then return {name, value, header}, schema, written end
  return {value}, schema, written
end

-- aged says whether what was written then is older than the reader takes or trusts.
local function aged(written, oldest, floor)
  local time = tonumber(written) or 0
  return oldest > 0 and now - time > oldest or time < floor
end

-- foreign says whether the key, or the pointer in its format, is in use for something
-- that a reader must not delete.
local function foreign(format)
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then return hash_version() == nil end
  if kind ~= 'none' and kind ~= 'string' then return true end
  return format == 'versioned' and not pointed() and redis.call('EXISTS', pointer) == 1
end

local texts, schema, written = parts(ARGV[3])
if texts and schema == ARGV[4] and not aged(written, tonumber(ARGV[5]), tonumber(ARGV[6])) then return {'value', unpack(texts)} end
if foreign(ARGV[3]) then return {'foreign'} end
remove()
local state = control()
if state ~= 'none' then return {'bypass', state} end
redis.call('SET', ctl, ARGV[1], 'PX', ARGV[2])
return {'granted'}
