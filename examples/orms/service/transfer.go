package service

// Change is one side of a transfer.
type Change struct{ ID, Cents int64 }

// Changes are the two sides of a transfer in the order of their ids, in which every service writes them, so that two transfers
// never wait for each other's row locks.
func Changes(from, to, cents int64) [2]Change {
	if from < to {
		return [2]Change{{from, -cents}, {to, cents}}
	}
	return [2]Change{{to, cents}, {from, -cents}}
}

// Check turns the count of rows that a side's UPDATE touched into an error where it was none.
func (c Change) Check(rows int64, err error) error {
	if err == nil && rows == 0 && c.Cents < 0 {
		return ErrFunds
	}
	return Touched(rows, err)
}
