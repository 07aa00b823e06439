package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// stale compares what a way has in Redis with its table, when it is at rest. By hand, two writers of
// a row whose SETs land in the other order leave an old one; with wtcache there is to be none.
func (s *servers) stale(ctx context.Context, w *way) (cached, stale int, err error) {
	rows, err := s.admin.QueryContext(ctx, "SELECT id, name, credit FROM "+w.table)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close() //nolint:errcheck // Err says it
	var all []member
	for rows.Next() {
		var m member
		if err := rows.Scan(&m.ID, &m.Name, &m.Credit); err != nil {
			return 0, 0, err
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return 0, 0, err
	}
	for some := range slices.Chunk(all, chunk) {
		keys := make([]string, len(some))
		for i := range some {
			keys[i] = w.entry(some[i].ID)
		}
		values, err := s.watch.MGet(ctx, keys...).Result()
		if err != nil {
			return 0, 0, err
		}
		for i, value := range values {
			text, ok := value.(string)
			if !ok {
				continue
			}
			cached++
			if text == filler { // of before
				stale++
				continue
			}
			m, err := w.decode(text)
			if err != nil {
				return 0, 0, fmt.Errorf("%s: %w", keys[i], err)
			}
			if m.ID != some[i].ID || m.Name != some[i].Name || m.Credit != some[i].Credit {
				stale++
			}
		}
	}
	if w.cached() && stale > 0 {
		return cached, stale, fmt.Errorf("%d of %d entries are stale", stale, cached)
	}
	return cached, stale, nil
}

func (w *way) decode(text string) (m member, err error) {
	if !w.cached() {
		err = json.Unmarshal([]byte(text), &m)
		return m, err
	}
	envelope := struct{ Data *member }{&m}
	err = json.Unmarshal([]byte(text), &envelope)
	return m, err
}
