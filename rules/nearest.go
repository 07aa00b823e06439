package rules

// Nearest gives the candidate that somebody who wrote want may have meant; ok is false
// where none is near.
func Nearest(want string, candidates []string) (near string, ok bool) {
	all := nearest(want, candidates)
	if len(all) == 0 {
		return "", false
	}
	return all[0], true
}

// KeyType gives the pg_type.typname of a key column, of a domain the one of its base type;
// "" for a column that is in no key.
func (t *Table) KeyType(column string) string {
	if k := t.keyColumn(column); k != nil {
		return k.base
	}
	return ""
}
