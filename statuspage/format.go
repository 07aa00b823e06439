package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// shortDuration gives seconds with two or three digits and a unit: 250 µs, 1.2 ms, 45 s, 3 min, 2.5 h.
func shortDuration(s float64) string {
	switch {
	case s == 0:
		return "0 s"
	case s < 0.001:
		return digits(s*1e6) + " µs"
	case s < 1:
		return digits(s*1e3) + " ms"
	case s < 120:
		return digits(s) + " s"
	case s < 3600:
		return digits(s/60) + " min"
	case s < 86400:
		return digits(s/3600) + " h"
	}
	return digits(s/86400) + " d"
}

// digits gives at most one decimal, and none from 100 on.
func digits(f float64) string {
	if f >= 99.95 {
		return grouped(uint64(math.Round(f)))
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}

// grouped separates thousands by a narrow space.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func percent(f float64) string {
	if f > 0.999 && f < 1 {
		return "99.9 %" // 100 % is for all
	}
	return digits(f*100) + " %"
}

func rate(f float64) string { return digits(f) + "/s" }

func count(f float64) string { return grouped(uint64(max(math.Round(f), 0))) }

func bytesText(n int64) string {
	if n < 0 {
		return "unknown"
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return digits(f) + " " + []string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// ago says how long something is over.
func ago(now, then time.Time) string {
	return fmt.Sprintf("%s ago", shortDuration(math.Round(max(now.Sub(then).Seconds(), 0))))
}

// orDash formats what there is.
func orDash(f *float64, format func(float64) string) string {
	if f == nil {
		return "–"
	}
	return format(*f)
}
