package statuspage

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// plot is one figure over the last minutes, drawn here so that it needs no script.
type plot struct {
	ID, Title, Help string
	Lines           []line
	format          func(float64) string
	top             float64 // the least upper end of the scale
	fixed           bool    // the scale ends at top whatever the values are
	whole           bool    // values are whole numbers
}

// line is one series of a plot.
type line struct {
	Name  string
	Class string // of the style sheet: s1 or s2
	of    func(Sample) *float64
}

// The figure's coordinates, in units of about a pixel on a phone.
const (
	plotWidth, plotHeight = 340.0, 150.0
	plotLeft, plotRight   = 46.0, 8.0
	plotTop, plotBottom   = 10.0, 22.0
)

func plots(outside bool) []plot {
	debt := []plot{
		{ID: "rows", Title: "Outbox", Help: "rows that wait to be settled with Redis", format: count, top: 4, whole: true,
			Lines: []line{{"rows", "s1", func(s Sample) *float64 { return s.OutboxRows }}}},
		{ID: "oldest", Title: "Oldest row in the outbox", Help: "how long it has waited", format: shortDuration, top: 4,
			Lines: []line{{"age", "s1", func(s Sample) *float64 { return s.OutboxOldest }}}},
	}
	if outside {
		return debt
	}
	return append([]plot{
		{ID: "latency", Title: "Write latency", Help: "of ruled writes, fence, COMMIT and apply included", format: shortDuration, top: 0.001,
			Lines: []line{{"p50", "s1", func(s Sample) *float64 { return s.WriteP50 }}, {"p95", "s2", func(s Sample) *float64 { return s.WriteP95 }}}},
		{ID: "hits", Title: "Hit rate", Help: "of the rows that readers asked for", format: percent, top: 1, fixed: true,
			Lines: []line{{"hits", "s1", func(s Sample) *float64 { return s.HitRatio }}}},
		{ID: "age", Title: "Age of served values", Help: "since they were written to Redis", format: shortDuration, top: 0.001,
			Lines: []line{{"p50", "s1", func(s Sample) *float64 { return s.AgeP50 }}, {"p95", "s2", func(s Sample) *float64 { return s.AgeP95 }}}},
		{ID: "rate", Title: "Traffic", Help: "rows read and ruled writes in a second", format: rate, top: 1,
			Lines: []line{{"reads", "s1", func(s Sample) *float64 { return s.ReadsPerSecond }}, {"writes", "s2", func(s Sample) *float64 { return s.WritesPerSecond }}}},
	}, debt...)
}

// figure is a plot with its values.
type figure struct {
	plot
	Now     []string // the latest value of each line
	Summary string   // the same in words, for those who do not see the figure
	SVG     template.HTML
}

func (p plot) draw(samples []Sample, now time.Time) figure {
	f := figure{plot: p}
	at := axisOf(samples, now)
	top := p.scale(samples)
	var words []string
	for _, l := range p.Lines {
		latest := (*float64)(nil)
		if n := len(samples); n > 0 {
			latest = l.of(samples[n-1])
		}
		f.Now = append(f.Now, orDash(latest, p.format))
		words = append(words, fmt.Sprintf("%s now %s, %s", l.Name, orDash(latest, p.format), p.extent(samples, l)))
	}
	f.Summary = fmt.Sprintf("%s over the last %d min: %s.", p.Title, int(at.span.Minutes()), strings.Join(words, "; "))
	f.SVG = template.HTML(p.svg(samples, at, top, f.Summary)) // escaped where it is put together
	return f
}

// extent tells between which values a line was.
func (p plot) extent(samples []Sample, l line) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range samples {
		if v := l.of(s); v != nil {
			low, high = min(low, *v), max(high, *v)
		}
	}
	if high < low {
		return "nothing to show yet"
	}
	return fmt.Sprintf("between %s and %s", p.format(low), p.format(high))
}

// scale gives the upper end: a round number in the unit that is shown.
func (p plot) scale(samples []Sample) float64 {
	if p.fixed {
		return p.top
	}
	highest := p.top
	for _, s := range samples {
		for _, l := range p.Lines {
			if v := l.of(s); v != nil {
				highest = max(highest, *v)
			}
		}
	}
	unit := 1.0
	if strings.Contains(p.format(highest), " ") { // durations are read in their own unit
		switch {
		case highest >= 86400:
			unit = 86400
		case highest >= 3600:
			unit = 3600
		case highest >= 120:
			unit = 60
		}
	}
	if p.whole {
		return max(nice(highest/4)*4, 4)
	}
	return nice(highest/unit/2) * 2 * unit
}

// nice gives the next of 1, 2, 2.5, 5 times a power of ten.
func nice(f float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(f)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if f <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func (p plot) svg(samples []Sample, at axis, top float64, summary string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s" class="plot"`, plotWidth, plotHeight, template.HTMLEscapeString(summary))
	p.readouts(&b, samples, at)
	b.WriteString(">")
	p.grid(&b, at, top)
	for _, l := range p.Lines {
		if d := strokes(samples, l, at, top); d != "" {
			if len(p.Lines) == 1 {
				fmt.Fprintf(&b, `<path class="area %s" d="%s"/>`, l.Class, area(samples, l, at, top))
			}
			fmt.Fprintf(&b, `<path class="line %s" d="%s"/>`, l.Class, d)
		}
	}
	b.WriteString(`<line class="cursor" y1="10" y2="128" x1="-9" x2="-9"/></svg>`)
	return b.String()
}

// readouts are what the script shows under the pointer: where the samples are, and their values in words.
func (p plot) readouts(b *strings.Builder, samples []Sample, at axis) {
	var xs, texts []string
	for _, s := range samples {
		if at.now.Sub(s.Time) > at.span {
			continue
		}
		words := []string{s.Time.Format("15:04:05")}
		for _, l := range p.Lines {
			words = append(words, l.Name+" "+orDash(l.of(s), p.format))
		}
		xs, texts = append(xs, fmt.Sprintf("%.1f", at.x(s.Time))), append(texts, strings.Join(words, " · "))
	}
	fmt.Fprintf(b, ` data-x="%s" data-text="%s"`, strings.Join(xs, " "), template.HTMLEscapeString(strings.Join(texts, "|")))
}

func (p plot) grid(b *strings.Builder, at axis, top float64) {
	for i := range 3 {
		v := top * float64(i) / 2
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, plotWidth-plotRight, y(v, top), y(v, top), plotLeft-6, y(v, top)+4, template.HTMLEscapeString(p.format(v)))
	}
	for _, t := range at.ticks() {
		fmt.Fprintf(b, `<text class="tick" x="%.1f" y="%g" text-anchor="%s">%s</text>`, at.x(at.now.Add(-t.back)), plotHeight-5, t.anchor, t.text)
	}
}

// axis is that of time. It is as long as there is something to show, up to Window.
type axis struct {
	now  time.Time
	span time.Duration
}

func axisOf(samples []Sample, now time.Time) axis {
	for _, span := range []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute} {
		if len(samples) == 0 || now.Sub(samples[0].Time) < span {
			return axis{now, span}
		}
	}
	return axis{now, Window}
}

func (a axis) x(t time.Time) float64 {
	back := min(max(a.now.Sub(t).Seconds()/a.span.Seconds(), 0), 1)
	return plotWidth - plotRight - (plotWidth-plotLeft-plotRight)*back
}

// ticks are the ends, and two places between.
func (a axis) ticks() []tick {
	unit, name := time.Minute, " min"
	if a.span < 5*time.Minute {
		unit, name = time.Second, " s"
	}
	third := a.span / 3
	if a.span%(3*unit) != 0 { // five minutes
		third = a.span * 2 / 5
	}
	all := []tick{{a.span, fmt.Sprintf("−%d%s", a.span/unit, name), "start"}, {0, "now", "end"}}
	for back := third; back < a.span; back += third {
		all = append(all, tick{back, fmt.Sprintf("−%d", back/unit), "middle"})
	}
	return all
}

type tick struct {
	back         time.Duration
	text, anchor string
}

func y(v, top float64) float64 {
	return plotHeight - plotBottom - (plotHeight-plotTop-plotBottom)*min(v/top, 1)
}

// runs gives the stretches of a line between its gaps.
func runs(samples []Sample, l line, at axis) [][]Sample {
	var all [][]Sample
	open := false
	for _, s := range samples {
		if l.of(s) == nil || at.now.Sub(s.Time) > at.span {
			open = false
			continue
		}
		if !open {
			all, open = append(all, nil), true
		}
		all[len(all)-1] = append(all[len(all)-1], s)
	}
	return all
}

// strokes draws a sample between two gaps as a dot, by its round ends.
func strokes(samples []Sample, l line, at axis, top float64) string {
	var b strings.Builder
	for _, run := range runs(samples, l, at) {
		for i, s := range run {
			fmt.Fprintf(&b, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], at.x(s.Time), y(*l.of(s), top))
		}
		if len(run) == 1 {
			b.WriteString("h.01")
		}
	}
	return b.String()
}

func area(samples []Sample, l line, at axis, top float64) string {
	var b strings.Builder
	for _, run := range runs(samples, l, at) {
		fmt.Fprintf(&b, "M%.1f %.1f", at.x(run[0].Time), y(0, top))
		for _, s := range run {
			fmt.Fprintf(&b, "L%.1f %.1f", at.x(s.Time), y(*l.of(s), top))
		}
		fmt.Fprintf(&b, "V%.1fZ", y(0, top))
	}
	return b.String()
}
