package rules

// KeyFault says why a column of a table cannot be a part of a key, as the end of a
// sentence; "" where it can, and where the catalogue was not asked about the column.
func (c *Catalog) KeyFault(table Name, column string) string {
	a := c.columnOf(table, column)
	if a == nil {
		return ""
	}
	_, problem := c.keyColumn(a)
	return problem
}

// PayloadFault says why a column of a table cannot stand in a payload, as the end of a
// sentence; "" where it can, and where the catalogue was not asked about the column.
func (c *Catalog) PayloadFault(table Name, column string) string {
	a := c.columnOf(table, column)
	if a == nil {
		return ""
	}
	if _, ok := c.topSettings(a); !ok {
		return "its text depends on search_path"
	}
	return ""
}

func (c *Catalog) columnOf(table Name, column string) *column {
	rel := c.byName[qualified(table)]
	if rel == nil {
		return nil
	}
	return rel.column(column)
}

// PayloadCondition gives the SQL condition on a session's settings under which an entry with
// this column is stored: elsewhere the column's text would be another one, and the entry is
// absent. "" is for columns that any session spells alike.
func (c *Catalog) PayloadCondition(table Name, column string) string {
	a := c.columnOf(table, column)
	if a == nil {
		return ""
	}
	s, _ := c.topSettings(a)
	return s.sql()
}
