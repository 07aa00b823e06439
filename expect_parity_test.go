package wtcache_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// askedFamilies are tables of which all rows are too many. Each call makes them anew.
func askedFamilies() []*family {
	all := []*family{
		usersFamily("insert", insertForms), usersFamily("update", updateForms), usersFamily("update of keys", keyForms),
		usersFamily("delete", deleteForms), usersFamily("script", scriptForms),
	}
	for _, f := range []*family{partitionsFamily, inheritanceFamily, viewsFamily, triggersFamily, securityFamily} {
		one := *f
		all = append(all, &one)
	}
	for _, f := range all {
		f.most = 1
	}
	return all
}

// TestWriteFormsWherePlannerIsAsked holds the cache against the database, as TestWriteForms does, for writes most of which are
// too large to be captured. When one fails, a write of that form leaves the old row in the cache.
func TestWriteFormsWherePlannerIsAsked(t *testing.T) {
	for _, f := range askedFamilies() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, f)
			for _, form := range f.forms {
				if form.fresh {
					continue // each run has a schema of its own, in which less is asked
				}
				form.class = uncounted
				t.Run(form.name, func(t *testing.T) { w.tryForm(t, &form) })
			}
			if n := w.stats(t).SizesAsked; n == 0 {
				t.Error("the planner was asked about nothing")
			}
		})
	}
}

// TestParityWherePlannerIsAsked is TestParity for tables that are large, as far as the driver knows: what can be asked about is
// asked about, and nothing in a transaction. When it fails, a program notices that: another error than its statement's, at another
// place, a transaction that has failed for nothing, or a prepared statement in its session.
func TestParityWherePlannerIsAsked(t *testing.T) {
	failing := usersFamily("errors", errorForms)
	failing.most = 1
	for _, f := range append(askedFamilies(), failing) {
		for _, in := range []around{auto, committed} {
			t.Run(f.name+"/"+string(in), func(t *testing.T) {
				t.Parallel()
				p := newTwins(t, f)
				for i := range f.forms {
					form := &f.forms[i]
					if !form.fresh && form.comparable(in) {
						t.Run(form.name, func(t *testing.T) { p.compare(t, form, in) })
					}
				}
				asks := in == auto && f.name != "script" // the server runs a script in a transaction
				if n := p.ours.stats(t).SizesAsked; (n > 0) != asks {
					t.Errorf("the planner was asked about %d statements", n)
				}
			})
		}
	}
}

// The same in each of pgx's ways to talk to the server.
func TestParityOfModesWherePlannerIsAsked(t *testing.T) {
	for _, mode := range execModes {
		for _, in := range []around{auto, committed} {
			t.Run(mode.String()+"/"+string(in), func(t *testing.T) {
				t.Parallel()
				f := usersFamily("modes", slices.Concat(modeForms, errorForms))
				f.most = 1
				p := newTwins(t, f, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
				for i := range f.forms {
					if f.forms[i].comparable(in) {
						t.Run(f.forms[i].name, func(t *testing.T) { p.compare(t, &f.forms[i], in) })
					}
				}
				if n := p.ours.stats(t).SizesAsked; in == auto && n < 20 || in != auto && n > 0 {
					t.Errorf("the planner was asked about %d statements", n)
				}
			})
		}
	}
}
