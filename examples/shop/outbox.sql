-- What `wtcache schema` prints: the tables of the outbox. They belong into a program's migrations like its own.
-- The tables in which wtcache keeps what it owes to Redis while Redis does not answer.
-- Every statement may be run again. psql runs this file as it is: psql -v schema=wtcache -f schema.sql

CREATE SCHEMA IF NOT EXISTS "wtcache";

-- One row for each process that has commits which Redis could not be told of beforehand. While any row is here, no process
-- serves cached values of strict rules that queue.
CREATE TABLE IF NOT EXISTS "wtcache".outage (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	process      text        NOT NULL,
	announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	seen_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Keys to be made absent in Redis. Written in the transaction that changed the rows, deleted once Redis has acknowledged.
CREATE TABLE IF NOT EXISTS "wtcache".outbox (
	id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	outage     bigint      REFERENCES "wtcache".outage (id),
	debt       json        NOT NULL,
	held       boolean     NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Removing an outage looks for rows of it.
CREATE INDEX IF NOT EXISTS outbox_outage ON "wtcache".outbox (outage);

-- For how long processes serve cached values without having looked at outage: a row for each length that is or was in use.
-- Whoever announces an outage waits for the longest.
CREATE TABLE IF NOT EXISTS "wtcache".watch (
	millis bigint PRIMARY KEY
);

COMMENT ON SCHEMA "wtcache" IS 'wtcache: what is owed to Redis';
COMMENT ON TABLE "wtcache".outage IS 'processes whose commits Redis could not be told of beforehand; while a row is here, cached values of strict rules are not served';
COMMENT ON COLUMN "wtcache".outage.process IS 'host, process id and a random text';
COMMENT ON COLUMN "wtcache".outage.seen_at IS 'when the process was last alive; others remove the row of a dead process once its rows in outbox are gone';
COMMENT ON TABLE "wtcache".outbox IS 'keys to be made absent in Redis; a row is deleted once Redis has acknowledged';
COMMENT ON COLUMN "wtcache".outbox.outage IS 'the announcement that this commit needed: the foreign key keeps it while this row is here; NULL for a commit that needed none';
COMMENT ON COLUMN "wtcache".outbox.debt IS '{"keys": [...], "keys_base64": [...], "sweeps": [{"barrier": "...", "globs": [...]}]}';
COMMENT ON COLUMN "wtcache".outbox.held IS 'not to be settled before the outage is over: it stands for commits that are still to come';
COMMENT ON TABLE "wtcache".watch IS 'milliseconds for which processes serve cached values without having looked at outage; delete a row only when no process has used it for that long';
