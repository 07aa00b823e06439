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
if state == 'fence' then
  local expiry = now + tonumber(ARGV[2])
  if expiry > longest then longest = expiry end
  mark(longest, 't:' .. ARGV[1], ms(expiry), 'dirty', '1')
else
  redis.call('SET', ctl, 'f:' .. ARGV[1], 'PX', ARGV[2])
end
remove()
return live + 1
