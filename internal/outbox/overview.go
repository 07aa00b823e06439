package outbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Overview is what the tables hold at one moment.
type Overview struct {
	Rows, Held int64 // rows that wait; of them, those that stand for commits still to come
	Oldest     time.Duration
	Outages    []Outage
}

// Outage is a process that has announced that it writes past Redis.
type Outage struct {
	Process        string
	For, SilentFor time.Duration // since it was announced, and since the process was last alive
	GivenUp        bool          // the process has closed and left it to others
}

// Look reads the tables of a schema ("": DefaultSchema), which the role must be able to read. It changes nothing.
func Look(ctx context.Context, q Querier, schema string) (Overview, error) {
	var o Overview
	s := strings.NewReplacer("$S", quote(orDefault(schema)))
	rows, err := q(ctx, s.Replace(overviewSQL))
	if err != nil {
		return o, fmt.Errorf("look at the outbox: %w", err)
	}
	for _, row := range rows {
		if err := o.read(row); err != nil {
			return o, fmt.Errorf("look at the outbox: %w", err)
		}
	}
	return o, nil
}

// overviewSQL gives one row for the outbox, then one for each outage. Every cell is a text.
const overviewSQL = `SELECT NULL::pg_catalog.text, pg_catalog.count(*)::pg_catalog.text, pg_catalog.count(*) FILTER (WHERE held)::pg_catalog.text,
		coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.min(created_at)), 0)::pg_catalog.text FROM $S.outbox
	UNION ALL
	(SELECT process, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - announced_at)::pg_catalog.text,
		CASE WHEN pg_catalog.isfinite(seen_at) THEN pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - seen_at)::pg_catalog.text END, NULL
	FROM $S.outage ORDER BY id LIMIT 100)`

func (o *Overview) read(row []*string) error {
	if len(row) != 4 || row[1] == nil {
		return fmt.Errorf("got %d columns where 4 were asked for", len(row))
	}
	if row[0] != nil {
		out := Outage{Process: *row[0], GivenUp: row[2] == nil}
		err := seconds(row[1], &out.For)
		if err == nil && !out.GivenUp {
			err = seconds(row[2], &out.SilentFor)
		}
		o.Outages = append(o.Outages, out)
		return err
	}
	var err error
	if o.Rows, err = strconv.ParseInt(*row[1], 10, 64); err != nil {
		return err
	}
	if o.Held, err = strconv.ParseInt(*row[2], 10, 64); err != nil {
		return err
	}
	return seconds(row[3], &o.Oldest)
}

func seconds(text *string, into *time.Duration) error {
	f, err := strconv.ParseFloat(*text, 64)
	*into = time.Duration(max(f, 0) * float64(time.Second))
	return err
}
