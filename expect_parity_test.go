package wtcache_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestParityWherePlannerIsAsked is TestParity for tables that are large, as far as the driver knows: what can be asked about is
// asked about. When it fails, a program notices that: another error than its statement's, at another place, a transaction
// that has failed for nothing, or a prepared statement in its session.
func TestParityWherePlannerIsAsked(t *testing.T) {
	for _, f := range []*family{
		usersFamily("insert", insertForms), usersFamily("update", updateForms), usersFamily("update of keys", keyForms),
		usersFamily("delete", deleteForms), usersFamily("script", scriptForms), usersFamily("errors", errorForms),
		partitionsFamily, inheritanceFamily, viewsFamily, triggersFamily, securityFamily,
	} {
		for _, in := range []around{auto, committed} {
			t.Run(f.name+"/"+string(in), func(t *testing.T) {
				t.Parallel()
				asked := *f
				asked.most = 1
				p := newTwins(t, &asked)
				for i := range asked.forms {
					form := &asked.forms[i]
					if !form.fresh && form.comparable(in) {
						t.Run(form.name, func(t *testing.T) { p.compare(t, form, in) })
					}
				}
				if n := p.ours.stats(t).SizesAsked; n == 0 {
					t.Error("the planner was asked about nothing")
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
				f := usersFamily("modes", append(modeForms, errorForms...))
				f.most = 1
				p := newTwins(t, f, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
				for i := range f.forms {
					if f.forms[i].comparable(in) {
						t.Run(f.forms[i].name, func(t *testing.T) { p.compare(t, &f.forms[i], in) })
					}
				}
				if n := p.ours.stats(t).SizesAsked; n < 20 {
					t.Errorf("the planner was asked about %d statements, too few to tell", n)
				}
			})
		}
	}
}
