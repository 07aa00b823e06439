package wtcache

import "database/sql/driver"

// explaining is one statement on its way to an Explanation.
type explaining struct {
	x     *Explainer
	st    *step
	alone bool   // the text has no other statement
	whole string // the text
	args  []driver.NamedValue
	at    *places
}

func (e *explaining) explain() Explanation { return Explanation{} }
