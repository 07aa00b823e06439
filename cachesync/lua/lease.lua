-- lease gives a reader the value, or the right to fill the absent key.
--
-- KEYS    -> key, control key, meta sibling
-- ARGV[1] -> nonce, fresh for this request
-- ARGV[2] -> life of the lease in ms
-- ARGV[3] -> format: envelope, plain
-- ARGV[4] -> schema that the reader understands
-- Returns {'value', value, meta}; {'granted'}; {'bypass'} under a fence or another's lease;
-- {'foreign'} where the key holds another Redis type. A value of another schema or format
-- counts as absent and makes room for the fill.
local value = redis.pcall('GET', key)
if type(value) == 'table' then return {'foreign'} end
if value then
  local beside = ''
  if ARGV[3] == 'plain' then beside = redis.call('GET', meta) or '' end
  local header = ARGV[3] == 'plain' and beside or value
  if string.sub(header, 1, 12) == '{"version":"' and string.sub(header, 98, 105) == ARGV[4] then
    return {'value', value, beside}
  end
  remove()
end
if control() ~= 'none' then return {'bypass'} end
redis.call('SET', ctl, ARGV[1], 'PX', ARGV[2])
return {'granted'}
