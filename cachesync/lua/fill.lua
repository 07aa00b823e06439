-- fill stores what a reader read from the database after its lease was granted.
--
-- KEYS    -> key, control key, meta sibling, pointer, version key (versioned alone)
-- ARGV[1] -> nonce of the lease
-- ARGV[2] -> format: envelope, plain, hash, versioned
-- ARGV[3] -> life of the value in ms
-- ARGV[4] -> head, ARGV[5] -> tail of the header (version 0)
-- ARGV[6] -> payload
-- Returns 1 if it was stored, 0 if the lease is no longer this nonce's.
if held() == ARGV[1] and ARGV[2] == 'envelope' then
  redis.call('DEL', ctl, meta)
  envelope(ARGV[3], ARGV[4], time(), ARGV[5], ARGV[6])
  return 1
end
-- prelude
if control() ~= 'lease' or redis.call('GET', ctl) ~= ARGV[1] then return 0 end
remove(ctl)
store(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
