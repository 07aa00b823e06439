-- abort ends a writer's part in a fence after a definite rollback.
--
-- KEYS     -> key, control key, meta sibling, pointer
-- ARGV[1]  -> the writer's acknowledged token
-- ARGV[2…] -> tokens of earlier tries of the same fence
-- Returns 'gone' where the acknowledged token was not there (an earlier try that arrived
-- late does not show that the fence has stood all along); else 'ended', or 'held' where
-- other tokens live.
local state, live = control('fence')
if state ~= 'fence' then return 'gone' end
local own = redis.call('HDEL', ctl, 't:' .. ARGV[1])
live = live - own
for i = 2, #ARGV do
  live = live - redis.call('HDEL', ctl, 't:' .. ARGV[i])
end
if live == 0 then redis.call('DEL', ctl) end
if own == 0 then return 'gone' end
if live == 0 then return 'ended' end
return 'held'
