-- invalidate makes the key absent for somebody who holds no fence: an eventual write, the
-- follower, the outbox, a debt, a sweep.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> version: spares a value that is not older; empty spares nothing
-- Returns what was met: 'fence' (its floor is raised, or it is dirty), 'lease' (ended),
-- 'deleted' or 'kept' (a value), 'absent'.
if ARGV[1] == '' and redis.call('EXISTS', ctl, pointer) == 0 then
  if redis.call('DEL', key) == 0 then return 'absent' end
  redis.call('DEL', meta)
  return 'deleted'
end
-- prelude
local version, answer = ARGV[1], 'absent'
local state, _, longest, marks = control()
if pointed() or redis.call('EXISTS', key) == 1 then
  answer = 'kept'
  local had = version ~= '' and stored_version()
  if not had or older(had, version) then
    remove()
    answer = 'deleted'
  end
end
if state == 'fence' then
  if version == '' then
    mark(longest, 'dirty', '1')
  elseif older(marks.floor or '', version) then
    mark(longest, 'floor', version)
  end
  return 'fence'
end
if state == 'lease' then
  redis.call('DEL', ctl)
  if answer == 'absent' then return 'lease' end
end
return answer
