package wtcache

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"

	"github.com/wtcache/wtcache/parser"
)

// PlanByShape plans a text on this connection by its shape and compares the outcome with the
// plan that is made from the text itself. ok is false where the text has no plan by its shape;
// steps says how many concern a rule.
func PlanByShape(ctx context.Context, on *sql.Conn, text string) (steps int, ok bool, err error) {
	rawErr := on.Raw(func(driverConn any) error {
		steps, ok, err = driverConn.(interface {
			planByShape(context.Context, string) (int, bool, error)
		}).planByShape(ctx, text)
		return nil
	})
	if err == nil {
		err = rawErr
	}
	return steps, ok, err
}

func (c *conn) planByShape(ctx context.Context, text string) (steps int, ok bool, err error) {
	if err := c.current(ctx); err != nil {
		return 0, false, err
	}
	var shape parser.Shape
	if !shape.Read(text) {
		return 0, false, nil
	}
	got := c.gen.planLike(c.gen.newShapePlan(text, &shape), text, &shape)
	if got == nil {
		return 0, false, nil
	}
	want := c.gen.planText(text)
	if got.touches != want.touches || got.words != want.words || got.backslash != want.backslash {
		return 0, true, fmt.Errorf("%q: by shape it touches=%t, by itself %t", text, got.touches, want.touches)
	}
	if !want.touches {
		return 0, true, nil
	}
	want.sizes.passing = shape.Passing()
	g, w := got.bind(c), want.bind(c)
	if !reflect.DeepEqual(g, w) {
		return 0, true, fmt.Errorf("%q:\nby shape  %+v\nby itself %+v", text, g, w)
	}
	return len(w.steps), true, nil
}
