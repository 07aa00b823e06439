package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan is what a run does.
type Plan struct {
	// Nemeses are the names of those that strike; nil: all that can.
	Nemeses []string
	// Once has each of them strike once, by itself, before the random sequences begin, whatever the time is.
	Once bool
	// Time bounds the run: no window is opened after it.
	Time time.Duration
	// Each is called with each window's result, where it is not nil.
	Each func(Result)
}

// Times of a window: before the nemesis strikes and after it has healed; while it lasts, unless it says otherwise.
const (
	before = 300 * time.Millisecond
	after  = 700 * time.Millisecond
	during = time.Second
)

// Run has nemeses strike a World, and reports what was found. An error means that the harness itself could not go on; what was
// found before is in the report.
func Run(ctx context.Context, w *World, plan Plan) (report Report, err error) {
	report = Report{Topology: w.opts.Topology, Mode: w.opts.Mode, Seed: w.opts.Seed}
	report.Total.Nemesis = "total"
	if err := checkNames(w.opts, plan.Nemeses); err != nil {
		return report, err
	}
	all := kindsFor(w.opts, plan.Nemeses)
	if w.contents, err = w.look(ctx); err != nil {
		return report, err
	}
	began := time.Now()
	play := func(chosen ...kind) error {
		r, err := w.window(ctx, chosen)
		if err != nil {
			return err
		}
		report.add(r)
		report.Kept = w.kept
		if plan.Each != nil {
			plan.Each(r)
		}
		return nil
	}
	if plan.Once {
		for _, k := range all {
			if err := play(k); err != nil {
				return report, err
			}
		}
	}
	for time.Since(began) < plan.Time {
		if err := play(w.draw(all)...); err != nil {
			return report, err
		}
	}
	return report, nil
}

// draw draws one nemesis, or two that strike one after the other and last together.
func (w *World) draw(all []kind) []kind {
	first, second := w.Rand.IntN(len(all)), w.Rand.IntN(2*len(all))
	if second >= len(all) || second == first || all[first].alone && all[second].alone {
		return []kind{all[first]}
	}
	return []kind{all[first], all[second]}
}

func (r *Report) add(s Result) {
	r.Total.add(s)
	i := slices.IndexFunc(r.Results, func(o Result) bool { return o.Nemesis == s.Nemesis })
	if i < 0 {
		r.Results = append(r.Results, s)
	} else {
		r.Results[i].add(s)
	}
}

// window lets all processes go on, has nemeses strike and heal, and checks what was written down when all is quiet again.
func (w *World) window(ctx context.Context, chosen []kind) (r Result, err error) {
	began := time.Now()
	var nemeses []Nemesis
	var names []string
	for _, k := range chosen {
		n := k.make()
		nemeses, names = append(nemeses, n), append(names, n.Name())
	}
	r = Result{Nemesis: strings.Join(names, " + "), Windows: 1}
	if err := w.Go(); err != nil {
		return r, err
	}
	if err := w.trouble(ctx, chosen, nemeses); err != nil {
		return r, fmt.Errorf("%s: %w", r.Nemesis, err)
	}
	q, err := w.Quiet(ctx)
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.Nemesis, err)
	}
	f := judge(q.records, w.began, q.at, w.contents, q.contents)
	w.contents = q.contents
	r.take(f, q)
	r.Took = time.Since(began)
	if r.Wrong() {
		err = w.keep(r, f, q)
	}
	return r, err
}

func (w *World) trouble(ctx context.Context, chosen []kind, nemeses []Nemesis) error {
	if err := sleep(ctx, before); err != nil {
		return err
	}
	var errs []error
	lasting, rest := time.Duration(0), after
	for i, n := range nemeses {
		errs = append(errs, n.Strike(ctx, w))
		hold := chosen[i].hold
		if hold == 0 {
			hold = during
		}
		lasting, rest = max(lasting, hold), max(rest, chosen[i].rest)
	}
	errs = append(errs, sleep(ctx, lasting))
	for _, n := range slices.Backward(nemeses) {
		errs = append(errs, n.Heal(ctx, w))
	}
	errs = append(errs, w.Revive(ctx), sleep(ctx, rest))
	return errors.Join(errs...)
}
