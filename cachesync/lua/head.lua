-- Shared head of every script. Most have a first part, for the cases that are met nearly always, which does what the
-- rest would do, and goes without prelude.lua: each call would define the functions in that anew.
--
-- KEYS[1] -> the key
-- KEYS[2] -> its control key: a lease, or a fence in one of two forms (see below)
-- KEYS[3] -> its meta sibling: the header of a plain or versioned entry
-- KEYS[4] -> its pointer (format versioned), which holds the name of a version key
-- KEYS[5] -> the version key to write, given where a versioned payload may be stored
-- All lie in one slot. lease alone reads a key that is not declared: the version key that
-- the pointer names, which no caller can know.
--
-- The control key is one of
--   a string f:<token>     a fence with one token, which lives as long as the control key: the short form
--   a hash                 a fence: t:<token> = expiry in ms by this server's clock, floor = version, dirty = 1
--   a string without f:    a lease: the reader's nonce
-- Both forms of a fence with one token and neither floor nor dirt are one state.
local key, ctl, meta, pointer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- The server's clock decides, never a client's. Milliseconds fit a double exactly.
local function time()
  local clock = redis.call('TIME')
  return tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
end

-- ms spells a number of milliseconds without an exponent.
local function ms(n)
  return string.format('%.0f', n)
end

-- held gives the text of the control key: false where that is no string or is not there. GET would answer a hash with
-- an error, which Redis counts.
local function held()
  return redis.call('MGET', ctl)[1]
end

-- envelope stores a payload with its header, which is head .. written_at .. tail.
local function envelope(ttl, head, now, tail, payload)
  redis.call('SET', key, head .. ms(now) .. tail .. payload .. '}', 'PX', ttl)
end
