package rules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Session is what one server session makes of the rules at one moment: which names are
// which relations under its search_path, and what its role may do. It is immutable and
// safe for concurrent use; a SET of search_path or role calls for a new one.
type Session struct {
	// Stale says that the catalogue is no longer the one that the Set was bound to: load
	// and bind again.
	Stale bool

	set       *Set
	key       string
	bare      map[string]uint32
	qualified map[Name]Target
	byOID     map[uint32]Target
}

// Target says what a statement on a relation can write.
type Target struct {
	Table   *Table   // the ruled table whose rows it writes
	Others  []*Table // further ruled tables whose rows it can write: to be made coarse
	Precise bool     // its rows can be captured by RETURNING
	View    bool     // it has no tableoid
	Reason  string   // why it is not precise, for the log and the counters
	// RowSecurity: policies are in force, so that RETURNING a column could change which
	// rows a statement touches; one that pins every key is precise without it.
	RowSecurity bool
	// MissingSelect: the role may write but not read, which RETURNING needs. Grant is the
	// statement that mends it.
	MissingSelect bool
	Grant         string
}

// Session asks one server session, by one query, what it makes of the rules. With compare it
// also holds the catalogue against the Set's, which costs more than all the rest: Stale is
// false without.
func (s *Set) Session(ctx context.Context, q Querier, compare bool) (*Session, error) {
	x := &Session{set: s, bare: map[string]uint32{}, qualified: map[Name]Target{}, byOID: map[uint32]Target{}}
	if len(s.names) == 0 {
		return x, nil
	}
	rows, err := q(ctx, s.sessionSQL(compare))
	if err != nil {
		return nil, fmt.Errorf("read session's view of the rules: %w", err)
	}
	rights := map[uint32]rights{}
	hash := sha256.New()
	for _, row := range rows {
		kind, id, body, err := threeCells(row)
		if err != nil {
			return nil, fmt.Errorf("decode session's view of the rules: %w", err)
		}
		switch kind {
		case "digest":
			x.Stale = body != s.catalog.digest
			continue // equal sessions are equal whether they were compared or not
		case "name":
			if oid, err := strconv.ParseUint(body, 10, 32); err == nil {
				x.bare[id] = uint32(oid)
			}
		case "rel":
			oid, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("decode relation's number: %w", err)
			}
			r := parseRights(body)
			rights[uint32(oid)] = r
			if body = fmt.Sprint(r.rowSecurity, r.read, r.write); r.write && !r.read {
				body += r.grant // names the role, which else makes no difference
			}
		}
		fmt.Fprintf(hash, "%s\x00%s\x00%s\x00", kind, id, body)
	}
	x.key = hex.EncodeToString(hash.Sum(nil)[:16])
	for oid, t := range s.targets {
		target := t.in(rights, s.catalog)
		x.byOID[oid] = target
		x.qualified[t.rel.name()] = target
	}
	return x, nil
}

// Key is equal for sessions that plan alike.
func (x *Session) Key() string { return x.key }

// Lookup says what a statement on a relation can write. schema is empty for a bare name,
// which is resolved as the session's search_path did. ok is false where the relation is
// nothing that is ruled: another schema's table, a temporary one.
func (x *Session) Lookup(schema, name string) (target Target, ok bool) {
	if schema != "" {
		target, ok = x.qualified[Name{schema, name}]
		return target, ok
	}
	oid, known := x.bare[name]
	if !known {
		return Target{}, false
	}
	target, ok = x.byOID[oid]
	return target, ok
}

// sessionSQL asks for three texts a row: the number of each bare name, the rights on each
// relation, and with compare the digest of the catalogue. The rows come in a fixed order.
func (s *Set) sessionSQL(compare bool) string {
	names := make([]string, len(s.names))
	for i, n := range s.names {
		names[i] = "(" + sqlString(n) + "::pg_catalog.text)"
	}
	var head, digest string
	if compare {
		head = s.head + " "
		digest = "SELECT 'digest' AS kind, '' AS id, (" + digestSQL + ") AS body\n  UNION ALL\n  "
	}
	return head + `SELECT kind, id, body FROM (
  ` + digest + `SELECT 'name' AS kind, n AS id, coalesce(pg_catalog.to_regclass(pg_catalog.quote_ident(n))::pg_catalog.oid::pg_catalog.text, '') AS body
  FROM (VALUES ` + strings.Join(names, ", ") + `) AS v(n)
  UNION ALL
  SELECT 'rel', c.oid::pg_catalog.int8::pg_catalog.text, pg_catalog.concat_ws(' ',
    pg_catalog.row_security_active(c.oid)::pg_catalog.int4,
    pg_catalog.has_table_privilege(c.oid, 'SELECT')::pg_catalog.int4,
    (pg_catalog.has_table_privilege(c.oid, 'DELETE') OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE'))::pg_catalog.int4,
    pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(c.relname) || ' TO ' || pg_catalog.quote_ident(current_user))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  WHERE c.oid = ANY ('{` + s.oids() + `}'::pg_catalog.oid[])
) x ORDER BY kind COLLATE "C", id COLLATE "C"`
}

func (s *Set) oids() string {
	oids := make([]string, 0, len(s.targets))
	for oid := range s.targets {
		oids = append(oids, strconv.FormatUint(uint64(oid), 10))
	}
	slices.Sort(oids)
	return strings.Join(oids, ",")
}

// rights is what a session's role may do with a relation.
type rights struct {
	rowSecurity, read, write bool
	grant                    string
}

func parseRights(body string) rights {
	parts := strings.SplitN(body, " ", 4)
	if len(parts) != 4 {
		return rights{}
	}
	return rights{
		rowSecurity: parts[0] == "1",
		read:        parts[1] == "1",
		write:       parts[2] == "1",
		grant:       "GRANT SELECT ON " + parts[3],
	}
}

func threeCells(row []*string) (string, string, string, error) {
	if len(row) != 3 || row[0] == nil || row[1] == nil || row[2] == nil {
		return "", "", "", fmt.Errorf("row of %d cells: want three texts", len(row))
	}
	return *row[0], *row[1], *row[2], nil
}

// in adds a session's rights to what the catalogue says. A relation that the session no
// longer finds has no rights; the Session is stale then.
func (t staticTarget) in(all map[uint32]rights, c *Catalog) Target {
	target := Target{Table: t.table, Others: t.others, View: t.view, Reason: t.reason}
	if t.reason != "" {
		return target
	}
	secured := all[t.rel.OID].rowSecurity
	// A view applies its owner's policies, or its caller's: whose is not worth telling.
	secured = secured || t.view && t.table.relation.RowSecurity
	unread, missing := t.unread(all, c)
	switch {
	case missing:
		target.Reason = "no SELECT privilege"
		if target.MissingSelect = all[t.rel.OID].write; target.MissingSelect {
			target.Grant = all[unread].grant
		}
	case secured:
		target.Reason, target.RowSecurity = "row-level security", true
	default:
		target.Precise = true
	}
	return target
}

// unread gives the first relation that RETURNING would have to read and that the role
// may not: the target itself, or what a view with its caller's rights is over.
func (t staticTarget) unread(all map[uint32]rights, c *Catalog) (oid uint32, missing bool) {
	for oid = t.rel.OID; all[oid].read; oid = c.views[oid].base {
		if rel := c.relations[oid]; oid == t.table.OID || !t.view || rel == nil || !rel.Invoker {
			return 0, false
		}
	}
	return oid, true
}
