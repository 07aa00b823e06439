-- apply ends a writer's part in a fence after a definite COMMIT.
--
-- KEYS     -> key, control key, meta sibling, pointer, version key (versioned alone)
-- ARGV[1]  -> format: envelope, plain, hash, versioned
-- ARGV[2]  -> life of the value in ms
-- ARGV[3]  -> version
-- ARGV[4]  -> head, ARGV[5] -> tail of the header
-- ARGV[6]  -> payload, empty for none
-- ARGV[7]  -> the writer's acknowledged token
-- ARGV[8…] -> tokens of earlier tries of the same fence
-- Returns 'stored'; 'held' where other tokens live; 'dropped' where the fence ended
-- without a value; 'lost' where there was no fence (whatever was there is deleted).
local state, live = control()
if state ~= 'fence' then
  redis.call('DEL', key, meta, ctl)
  unpoint()
  return 'lost'
end
local own = redis.call('HDEL', ctl, 't:' .. ARGV[7])
live = live - own
for i = 8, #ARGV do
  live = live - redis.call('HDEL', ctl, 't:' .. ARGV[i])
end
local dirty = own == 0 or ARGV[6] == ''
if live > 0 then
  if dirty then redis.call('HSET', ctl, 'dirty', '1') end
  return 'held'
end
local marks = redis.call('HMGET', ctl, 'dirty', 'floor')
redis.call('DEL', ctl)
if dirty or marks[1] or older(ARGV[3], marks[2] or '') then
  remove()
  return 'dropped'
end
store(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
return 'stored'
