-- invalidate makes the key absent for somebody who holds no fence: an eventual write, the
-- follower, the outbox, a debt, a sweep.
--
-- KEYS    -> key, control key, meta sibling, pointer
-- ARGV[1] -> version: spares a value that is not older; empty spares nothing
-- Returns what was met: 'fence' (its floor is raised, or it is dirty), 'lease' (ended),
-- 'deleted' or 'kept' (a value), 'absent'.
local version = ARGV[1]
if version == '' and redis.call('EXISTS', ctl, pointer) == 0 then
  if redis.call('DEL', key, meta) == 0 then return 'absent' end
  return 'deleted'
end
-- prelude
local answer = 'absent'
local state, _, _, marks = control()
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
    mark('dirty', '1')
  elseif older(marks.floor or '', version) then
    mark('floor', version)
  end
  return 'fence'
end
if state == 'lease' then
  redis.call('DEL', ctl)
  if answer == 'absent' then return 'lease' end
end
return answer
