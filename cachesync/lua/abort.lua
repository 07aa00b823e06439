-- abort ends a writer's part in a fence after a definite rollback.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[…] -> every token of the writer's fence
-- Returns 'ended'; 'held' where other tokens live; 'gone' where none of them was there.
local state, live = control()
if state ~= 'fence' then return 'gone' end
local removed = 0
for i = 1, #ARGV do
  removed = removed + redis.call('HDEL', ctl, 't:' .. ARGV[i])
end
if removed == live then
  redis.call('DEL', ctl)
  return 'ended'
end
if removed == 0 then return 'gone' end
return 'held'
