package wtcache

import (
	"context"
	"database/sql"
)

// ExplainerOn explains as the driver plans on this very connection, with what it knows by now.
func ExplainerOn(ctx context.Context, conn *sql.Conn) (x *Explainer, err error) {
	rawErr := conn.Raw(func(driverConn any) error {
		x, err = driverConn.(interface {
			explainNow(context.Context) (*Explainer, error)
		}).explainNow(ctx)
		return nil
	})
	if err == nil {
		err = rawErr
	}
	return x, err
}

func (c *conn) explainNow(ctx context.Context) (*Explainer, error) {
	if err := c.current(ctx); err != nil {
		return nil, err
	}
	return c.explainer(), nil
}

// CoarseReasons are the planner's reasons that Explain has sentences for.
func CoarseReasons() map[string]string {
	all := map[string]string{}
	for reason, w := range coarseReasons {
		all[reason] = w.because
	}
	return all
}
