package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/linear"
)

// Difference is a key that does not hold its row when all is quiet: an invalidation was lost.
type Difference struct {
	Key          string
	Held, Stored string // in Redis and in Postgres
}

func (d Difference) String() string {
	return fmt.Sprintf("%s holds %s, and its row is %s", d.Key, d.Held, d.Stored)
}

// quiet is what was found while all processes paused.
type quiet struct {
	records   []record
	contents  map[int]image
	at        int64 // when the tables were looked at
	differing []Difference
	unsettled string // what was still owed when patience was over
}

// pause has all processes end what they are doing and do nothing more.
func (w *World) pause() error {
	var errs []error
	for _, k := range w.workers {
		errs = append(errs, k.tell("pause"))
	}
	for _, k := range w.workers {
		errs = append(errs, k.await(`"done"`))
	}
	return errors.Join(errs...)
}

// Go lets all processes go on, and opens a window of the history.
func (w *World) Go() error {
	w.began = now()
	for _, k := range w.workers {
		if err := k.order("go"); err != nil {
			return err
		}
	}
	return nil
}

// Quiet has all processes pause until nothing is under way or owed, looks at the tables and at every key, and gives the
// history since Go.
func (w *World) Quiet(ctx context.Context) (q quiet, err error) {
	if err := w.pause(); err != nil {
		return q, err
	}
	if q.unsettled, err = w.settle(ctx); err != nil {
		return q, err
	}
	q.at = now()
	if q.contents, err = w.look(ctx); err != nil {
		return q, err
	}
	if q.differing, err = w.compare(ctx, q.contents); err != nil {
		return q, err
	}
	if err := w.forgetJump(ctx); err != nil {
		return q, err
	}
	q.records, err = w.readBooks()
	return q, err
}

// settle waits until no statement runs and nobody owes anything; what is left after a while is what it gives.
func (w *World) settle(ctx context.Context) (left string, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if left, err = w.unsettled(ctx); err != nil || left == "" || time.Now().After(end) {
			return left, err
		}
	}
}

func (w *World) unsettled(ctx context.Context) (string, error) {
	var busy int
	err := w.Admin.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'torture-%' AND state <> 'idle'").Scan(&busy)
	if err != nil {
		return fmt.Sprintf("Postgres cannot be asked: %v", err), ctx.Err()
	}
	if busy > 0 {
		return fmt.Sprintf("%d sessions are at work", busy), nil
	}
	if w.opts.Mode != Through {
		return "", nil
	}
	if left, err := w.queued(ctx); left != "" || err != nil {
		return left, err
	}
	for _, k := range w.workers {
		s, err := k.state()
		if err != nil {
			return "", err
		}
		if s.Owed > 0 || s.InDoubt > 0 {
			return fmt.Sprintf("process %s owes %d keys and has %d commits in doubt", k.Name, s.Owed, s.InDoubt), nil
		}
	}
	return "", nil
}

// queued says what is in the outbox. The outages of processes that were killed are aged: else they would be in force for half a
// minute, with nothing served from Redis, and the next nemesis would strike an idle cache. Who removes them are the processes.
func (w *World) queued(ctx context.Context) (string, error) {
	var live []string
	for _, k := range w.workers {
		live = append(live, fmt.Sprintf("/%d/", k.cmd.Process.Pid))
	}
	_, err := w.Admin.ExecContext(ctx, "UPDATE wtcache.outage SET seen_at = seen_at - interval '1 hour' WHERE process !~ $1", strings.Join(live, "|"))
	if err != nil {
		return "", err
	}
	var rows, outages int
	err = w.Admin.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM wtcache.outbox), (SELECT count(*) FROM wtcache.outage)").Scan(&rows, &outages)
	if err != nil || rows+outages == 0 {
		return "", err
	}
	return fmt.Sprintf("%d rows are in the outbox, and %d outages in force", rows, outages), nil
}

// look reads the tables.
func (w *World) look(ctx context.Context) (map[int]image, error) {
	contents := map[int]image{}
	for t := range tables {
		rows, err := w.Admin.QueryContext(ctx, "SELECT id, n FROM "+tables[t].name)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			r := image{place: place{table: t}, there: true}
			if err := rows.Scan(&r.row, &r.value); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			contents[r.key()] = r
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// compare looks at every key in Redis: it holds its row or nothing. A key that differs is then deleted, so that it is counted
// once and the next nemesis is not blamed for it.
func (w *World) compare(ctx context.Context, contents map[int]image) (differing []Difference, err error) {
	for _, p := range places() {
		for _, name := range p.names() {
			value, there, err := w.entry(ctx, p, name)
			if err != nil {
				return nil, err
			}
			want := contents[p.key()]
			if !there || want.there && value == want.value {
				continue
			}
			stored := "not there"
			if want.there {
				stored = valueText(want.value)
			}
			differing = append(differing, Difference{name, valueText(value), stored})
			if err := w.Eye.Del(ctx, name).Err(); err != nil {
				return nil, err
			}
		}
	}
	return differing, nil
}

// entry reads what a key holds, whatever the library thinks of it.
func (w *World) entry(ctx context.Context, p place, name string) (value int, there bool, err error) {
	var text string
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if w.opts.Mode == Through && p.format() == "hash" {
			text, err = w.Eye.HGet(ctx, name, "data").Result()
		} else {
			text, err = w.Eye.Get(ctx, name).Result()
		}
		if errors.Is(err, redis.Nil) {
			return 0, false, nil
		}
		if err == nil || ctx.Err() != nil || time.Now().After(end) || strings.HasPrefix(err.Error(), "WRONGTYPE") {
			break
		}
	}
	if err != nil {
		return 0, false, fmt.Errorf("look at %s: %w", name, err)
	}
	var held struct {
		N    *int `json:"n"`
		Data struct {
			N *int `json:"n"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(text), &held); err != nil {
		return 0, false, fmt.Errorf("look at %s: %w", name, err)
	}
	for _, n := range []*int{held.N, held.Data.N} {
		if n != nil {
			return *n, true, nil
		}
	}
	return 0, false, fmt.Errorf("torture: %s holds %q", name, text)
}

// readBooks gives what was written into all journals since they were read last.
func (w *World) readBooks() (all []record, err error) {
	for _, b := range w.books {
		records, next, err := readJournal(b.path, b.read)
		if err != nil {
			return nil, err
		}
		b.read = next
		all = append(all, records...)
	}
	w.books = slices.DeleteFunc(w.books, func(b *book) bool {
		return !slices.ContainsFunc(w.workers, func(k *Worker) bool { return k.book == b })
	})
	return all, nil
}

// valueText shows a value, which is its process's serial number and a counter.
func valueText(v int) string {
	if v == linear.Absent {
		return "no row"
	}
	return strconv.Itoa(v)
}
