package rules

// Function is a function or procedure of the database whose text mentions a ruled table
// and holds a word that writes. What it writes when it is called is not captured.
type Function struct {
	Name  Name
	Table *Table
}

// Functions gives them; trigger functions are among Relatives.
func (s *Set) Functions() []Function {
	var all []Function
	for _, t := range s.Tables {
		for _, spot := range s.catalog.blind {
			if spot.Root == t.OID && spot.Kind == "function" {
				all = append(all, Function{spot.name(), t})
			}
		}
	}
	return all
}
