-- fence puts a token on the key before a commit: nobody serves or fills it from here on.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> token, fresh for this request
-- ARGV[2] -> life of the token in ms
-- Returns the number of live tokens, this one included: 1 begins a new generation.
local state, live, longest = control()
local expiry = now + tonumber(ARGV[2])
if expiry > longest then longest = expiry end
if state == 'lease' then redis.call('DEL', ctl) end
redis.call('HSET', ctl, 't:' .. ARGV[1], ms(expiry))
if state == 'fence' then redis.call('HSET', ctl, 'dirty', '1') end
redis.call('PEXPIREAT', ctl, ms(longest))
remove()
return live + 1
