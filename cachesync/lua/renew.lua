-- renew extends the life of a token, only where it is still there.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> token
-- ARGV[2] -> life of the token in ms, from now
-- Returns 1 if it was extended, 0 if it is gone.
-- prelude
local state, _, longest, marks = control()
local token = 't:' .. ARGV[1]
if state ~= 'fence' or not marks[token] then return 0 end
local expiry = now + tonumber(ARGV[2])
if expiry > longest then longest = expiry end
if not short then redis.call('HSET', ctl, token, ms(expiry)) end
redis.call('PEXPIREAT', ctl, ms(longest))
return 1
