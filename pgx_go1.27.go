//go:build go1.27

package wtcache

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// replayPgx scans a kept value as pgx's stdlib scans one from the wire: destinations that
// database/sql has always known get its conversions, the others pgx's own.
func (c *conn) replayPgx(scan driver.ScanContext, column columnType, v driver.Value, dest any) error {
	if knownToSQL(reflect.TypeOf(dest)) {
		return sql.ConvertAssign(scan, dest, v)
	}
	types := c.pgx.TypeMap()
	oid := oidOf(types, column.name)
	wire, format, err := wireForm(types, oid, v)
	if err != nil {
		return fmt.Errorf("wtcache: scan a value of type %s again: %w", column.name, err)
	}
	return types.Scan(oid, format, wire, dest)
}

// oidOf undoes what pgx's stdlib tells of a type: its name in capitals, or its number
// where it has no name for it. 0 lets pgx go by the destination.
func oidOf(types *pgtype.Map, name string) uint32 {
	for _, n := range []string{strings.ToLower(name), name} {
		if t, ok := types.TypeForName(n); ok {
			return t.OID
		}
	}
	oid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(oid)
}

// wireForm gives a value as it came, or may have come, from the server: pgx's stdlib asks
// for the binary form of the types of which it makes other values than texts. In modes that leave it no choice
// they came as texts, which only a destination for the very bytes (pgtype.BytesScanner) tells apart.
func wireForm(types *pgtype.Map, oid uint32, v driver.Value) (wire []byte, format int16, err error) {
	switch v := v.(type) {
	case nil:
		return nil, pgtype.TextFormatCode, nil
	case string:
		return []byte(v), pgtype.TextFormatCode, nil
	case []byte:
		if oid != pgtype.ByteaOID {
			return v, pgtype.TextFormatCode, nil
		}
	}
	wire, err = types.Encode(oid, pgtype.BinaryFormatCode, v, nil)
	return wire, pgtype.BinaryFormatCode, err
}

// knownToSQL says whether pgx's stdlib leaves a destination to database/sql.
// Source: isSQLScanDestination in github.com/jackc/pgx/v5@v5.12.0/stdlib/sql_go1.27.go
func knownToSQL(t reflect.Type) bool {
	for depth := 0; ; depth++ {
		switch {
		case t.Implements(reflect.TypeFor[sql.Scanner]()):
			return true
		case t.Implements(reflect.TypeFor[pgtype.ArraySetter]()), t.Implements(reflect.TypeFor[pgtype.BytesScanner]()):
			return false
		case t.Kind() != reflect.Pointer:
			return knownKind(t)
		case depth > maxPointers: // a pointer type that points to itself
			return false
		}
		t = t.Elem()
	}
}

// maxPointers is more than pgx follows when it plans a scan.
const maxPointers = 16

func knownKind(t reflect.Type) bool {
	switch k := t.Kind(); k {
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	case reflect.Struct:
		return t.ConvertibleTo(reflect.TypeFor[time.Time]())
	default:
		return k >= reflect.Bool && k <= reflect.Float64 && k != reflect.Uintptr || k == reflect.String || k == reflect.Interface
	}
}
