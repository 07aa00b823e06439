-- abort ends a writer's part in a fence after a definite rollback.
--
-- KEYS     -> key, control key, meta sibling, pointer
-- ARGV[1]  -> the writer's acknowledged token
-- ARGV[2…] -> tokens of earlier tries of the same fence
-- Returns 'gone' where the acknowledged token was not there (an earlier try that arrived
-- late does not show that the fence has stood all along); else 'ended', or 'held' where
-- other tokens live.
if held() == 'f:' .. ARGV[1] then
  redis.call('DEL', ctl)
  return 'ended'
end
-- prelude
local state, live, _, marks = control()
if state ~= 'fence' then return 'gone' end
local mine, own = {}, marks['t:' .. ARGV[1]] and 1 or 0
for i = 1, #ARGV do
  local name = 't:' .. ARGV[i]
  if marks[name] then mine[#mine + 1] = name end
end
live = live - #mine
if live == 0 then
  redis.call('DEL', ctl)
else
  for i = 1, #mine do redis.call('HDEL', ctl, mine[i]) end
end
if own == 0 then return 'gone' end
if live == 0 then return 'ended' end
return 'held'
