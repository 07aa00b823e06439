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
if held() == 'f:' .. ARGV[7] and (ARGV[1] == 'envelope' or ARGV[6] == '') then
  redis.call('DEL', key, ctl, meta)
  if ARGV[6] == '' then return 'dropped' end
  envelope(ARGV[2], ARGV[4], time(), ARGV[5], ARGV[6])
  return 'stored'
end
-- prelude
local state, live, longest, marks = control()
if state ~= 'fence' then
  redis.call('DEL', key, meta, ctl)
  unpoint()
  return 'lost'
end
local mine, own = {}, marks['t:' .. ARGV[7]] and 1 or 0
for i = 7, #ARGV do
  local name = 't:' .. ARGV[i]
  if marks[name] then
    marks[name], mine[#mine + 1] = nil, name
  end
end
live = live - #mine
local dirty = own == 0 or ARGV[6] == ''
if live > 0 then
  for i = 1, #mine do redis.call('HDEL', ctl, mine[i]) end
  if dirty then mark(longest, 'dirty', '1') end
  return 'held'
end
remove(ctl)
if dirty or marks.dirty or marks.floor and older(ARGV[3], marks.floor) then return 'dropped' end
store(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
return 'stored'
