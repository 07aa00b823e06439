package outbox

import (
	"context"
	"fmt"
)

// Insert gives a statement, with its arguments, that writes a debt into the outbox. It is for the transaction that makes it owed, under
// the outage that a Ticket names; 0 for a debt that needs no announcement. The arguments are of int64 and string, and the text suits
// every way in which pgx sends statements. Where it fails with Gone, the caller rolls back and calls Doubted.
func (b *Box) Insert(outage int64, d Debt) (query string, args []any) {
	if outage == 0 {
		return b.text.insertFree, []any{d.encode()}
	}
	b.count(outage, int64(len(d.Keys)))
	return b.text.insert, []any{outage, d.encode()}
}

// Hand writes a debt into the outbox in a transaction of its own: the debt of a commit that is over, which was kept in memory until now.
// Once it has returned nil the debt survives this process. Readers are not kept from what it makes absent, meanwhile, by anything
// that Hand does. Errors are those of Postgres and the context; then the debt may be in the outbox or not.
func (b *Box) Hand(ctx context.Context, d Debt) error {
	if d.Empty() {
		return nil
	}
	b.Start()
	var n int64
	var ignored any
	if err := b.query(ctx, b.text.hand, []any{d.encode()}, &n, &ignored); err != nil {
		return fmt.Errorf("hand a debt to the outbox: %w", err)
	}
	b.stats.handed.Add(int64(len(d.Keys) + len(d.Sweeps)))
	b.Nudge()
	return nil
}
