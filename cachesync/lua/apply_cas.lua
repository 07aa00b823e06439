-- apply_cas is a write without a fence (consistency: eventual), after COMMIT.
--
-- KEYS    -> key, control key, meta sibling, pointer, version key (versioned alone)
-- ARGV[1] -> format: envelope, plain, hash, versioned
-- ARGV[2] -> life of the value in ms
-- ARGV[3] -> version
-- ARGV[4] -> head, ARGV[5] -> tail of the header
-- ARGV[6] -> payload, empty for none
-- Returns what was met: 'fence' (now dirty), 'lease' (ended), 'absent' (stays so: to store
-- there would race with a writer that has come and gone), 'kept' (a value that is not
-- older), 'deleted' (a fill, a value that is not ours, or no payload), 'replaced'.
-- prelude
local state = control()
if state == 'fence' then
  mark('dirty', '1')
  return 'fence'
end
if state == 'lease' then
  redis.call('DEL', key, meta, ctl)
  unpoint()
  return 'lease'
end
if not pointed() then
  if redis.call('EXISTS', key) == 0 then return 'absent' end
end
local had = stored_version()
if had and had ~= string.rep('0', 24) then
  if not older(had, ARGV[3]) then return 'kept' end
  if ARGV[6] ~= '' then
    remove()
    store(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
    return 'replaced'
  end
end
remove()
return 'deleted'
