-- follow reads an entry of format versioned in one step: the pointer, what it names, and
-- the header. It writes nothing, needs no clock, and goes without the prelude: it is run
-- for every hit.
--
-- KEYS -> key, control key, meta sibling, pointer
-- Returns {pointer, payload, header}; {} where one of them is missing or not ours. The
-- payload's key is not declared: the pointer alone knows it. It lies in the same slot.
local pointer, meta = KEYS[4], KEYS[3]
local found = redis.call('MGET', pointer, meta)
local names = string.sub(pointer, 1, -8) .. 'v'
if not found[1] or not found[2] or string.sub(found[1], 1, #names) ~= names then return {} end
local payload = redis.call('MGET', found[1])[1]
if not payload then return {} end
return {found[1], payload, found[2]}
