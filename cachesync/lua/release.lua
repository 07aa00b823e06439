-- release gives an unused lease back.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> nonce of the lease
-- Returns 1 if it was ended, 0 if it was no longer this nonce's.
-- prelude
if control() ~= 'lease' or redis.call('GET', ctl) ~= ARGV[1] then return 0 end
redis.call('DEL', ctl)
return 1
