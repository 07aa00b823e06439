package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpu is the time that processors have spent so far, here and in the two servers. It tells two
// ways apart on a machine that others use, too, where their times do not.
type cpu struct{ here, postgres, redis time.Duration }

func (c cpu) since(before cpu) cpu {
	return cpu{c.here - before.here, c.postgres - before.postgres, c.redis - before.redis}
}

func (c cpu) of(n int) cpu {
	each := time.Duration(n)
	return cpu{c.here / each, c.postgres / each, c.redis / each}
}

// cpu reads it; what the system does not tell stays 0.
func (s *servers) cpu(ctx context.Context) (c cpu, err error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return c, err
	}
	c.here = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	info, err := s.watch.Info(ctx, "cpu").Result()
	if err != nil {
		return c, err
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return c, fmt.Errorf("%s of Redis: %w", name, err)
			}
			c.redis += time.Duration(seconds * float64(time.Second))
		}
	}
	rows, err := s.admin.QueryContext(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return c, err
	}
	defer rows.Close() //nolint:errcheck // Err says it
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			return c, err
		}
		// Linux: nanoseconds on a processor, and two further figures.
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)); err == nil {
			spent, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(spent, 10, 64)
			c.postgres += time.Duration(n)
		}
	}
	return c, rows.Err()
}
