package rules

import "slices"

// TablesByName gives the ruled tables whose rows a relation of a bare name could hold or
// write, in whatever schema it is. It is for texts of which no more is known than the
// names in them.
func (s *Set) TablesByName(name string) []*Table {
	var tables []*Table
	for _, t := range s.targets {
		if t.rel.Name != name {
			continue
		}
		for _, table := range append([]*Table{t.table}, t.others...) {
			if table != nil && !slices.Contains(tables, table) {
				tables = append(tables, table)
			}
		}
	}
	return tables
}
