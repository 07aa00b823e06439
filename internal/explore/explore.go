// Package explore visits every state that a small concurrent program can reach, breadth first, and checks each of them.
//
// It knows nothing of what is explored: a Model gives the first state, the steps that lead out of a state, and the
// verdict on a state. Breadth first means that the trace to a broken state is a shortest one.
//
// States that were seen are remembered by 128 bits of hash rather than whole, so that a hundred million of them fit into
// the memory of one machine. Two states that share a hash would hide one of them; among 10^9 states the odds of a single
// such pair are about 1 in 10^21.
package explore

import (
	"fmt"
	"hash/maphash"
)

// Model is a program to explore. Its methods are called from one goroutine.
type Model[S comparable] interface {
	// Start is the state in which the program begins.
	Start() S
	// Steps calls to for every step that is possible in s. The next state belongs to the callee only for the call. The
	// label is shown in traces and may be empty unless named is true, so that it costs nothing while nobody reads it.
	Steps(s *S, named bool, to func(next *S, label string))
	// Check says what is wrong with a state, or nothing.
	Check(s *S) string
}

// Report is what came of an exploration.
type Report[S comparable] struct {
	// States that were met, and steps that led to them, those to states already known included.
	States, Transitions int
	// Depth is the length of the longest of all shortest ways to a state.
	Depth int
	// Broken is the verdict on the first state that was found wrong, empty where all are right, and Trace the way to it.
	Broken string
	Trace  []Step[S]
}

// Step is one step of a trace and the state it led to.
type Step[S comparable] struct {
	Label string
	State S
}

type fingerprint [2]uint64

// search is an exploration under way.
type search[S comparable] struct {
	model   Model[S]
	seeds   [2]maphash.Seed
	known   map[fingerprint]uint32 // the state's number
	parents []uint32               // by number: the state that it was first reached from
	report  Report[S]
}

// Run explores a model until all is visited or a state is wrong. More states than the limit are an error: a search that
// was cut off has shown nothing.
func Run[S comparable](m Model[S], limit int) (Report[S], error) {
	e := &search[S]{model: m, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, known: make(map[fingerprint]uint32)}
	start := m.Start()
	level := []numbered[S]{{e.add(e.fingerprint(&start), 0), start}}
	if e.report.Broken = m.Check(&start); e.report.Broken != "" {
		return e.report, nil
	}
	for len(level) > 0 {
		next, broken := e.expand(level)
		if broken != nil {
			e.report.Trace = e.trace(*broken)
			return e.report, nil
		}
		if len(e.parents) > limit {
			return e.report, fmt.Errorf("more than %d states", limit)
		}
		if len(next) > 0 {
			e.report.Depth++
		}
		level = next
	}
	return e.report, nil
}

type numbered[S comparable] struct {
	n     uint32
	state S
}

// expand takes every step out of the states of one level. It gives the new states, and the number of one that is wrong.
func (e *search[S]) expand(level []numbered[S]) (next []numbered[S], broken *uint32) {
	var from uint32
	visit := func(s *S, _ string) {
		if broken != nil {
			return
		}
		e.report.Transitions++
		print := e.fingerprint(s)
		if _, ok := e.known[print]; ok {
			return
		}
		n := e.add(print, from)
		next = append(next, numbered[S]{n, *s})
		if e.report.Broken = e.model.Check(s); e.report.Broken != "" {
			broken = &n
		}
	}
	for i := range level {
		from = level[i].n
		e.model.Steps(&level[i].state, false, visit)
		if broken != nil {
			break
		}
	}
	return next, broken
}

func (e *search[S]) fingerprint(s *S) fingerprint {
	return fingerprint{maphash.Comparable(e.seeds[0], *s), maphash.Comparable(e.seeds[1], *s)}
}

func (e *search[S]) add(print fingerprint, parent uint32) uint32 {
	n := uint32(len(e.parents))
	e.known[print] = n
	e.parents = append(e.parents, parent)
	e.report.States++
	return n
}

// trace walks from the start to a state by taking, at each state, the step to the next one on the way.
func (e *search[S]) trace(n uint32) []Step[S] {
	var way []uint32
	for ; n != 0; n = e.parents[n] {
		way = append(way, n)
	}
	at := e.model.Start()
	var steps []Step[S]
	for i := len(way) - 1; i >= 0; i-- {
		var found *Step[S]
		e.model.Steps(&at, true, func(next *S, label string) {
			if number, ok := e.known[e.fingerprint(next)]; ok && number == way[i] && found == nil {
				found = &Step[S]{label, *next}
			}
		})
		if found == nil {
			panic("explore: the model's steps are not a function of the state")
		}
		steps = append(steps, *found)
		at = found.State
	}
	return steps
}
