-- fence puts a token on the key before a commit: nobody serves or fills it from here on.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> token, fresh for this request
-- ARGV[2] -> life of the token in ms
-- Returns the number of live tokens, this one included: 1 begins a new generation.
if redis.call('EXISTS', pointer) == 0 and redis.call('SET', ctl, 'f:' .. ARGV[1], 'NX', 'PX', ARGV[2]) then
  redis.call('DEL', key, meta)
  return 1
end
-- prelude
local state, live, longest = control()
remove()
if state ~= 'fence' then
  redis.call('SET', ctl, 'f:' .. ARGV[1], 'PX', ARGV[2])
  return 1
end
local expiry = now + tonumber(ARGV[2])
if expiry > longest then longest = expiry end
mark('t:' .. ARGV[1], ms(expiry))
mark('dirty', '1')
redis.call('PEXPIREAT', ctl, ms(longest))
return live + 1
