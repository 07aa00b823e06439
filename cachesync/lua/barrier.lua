-- barrier looks whether a token lives on the key.
--
-- KEYS -> key, control key, meta sibling, pointer
-- Returns 1 while a live token is there, else 0.
if redis.call('EXISTS', ctl) == 0 then return 0 end
-- prelude
if control() == 'fence' then return 1 end
return 0
