package wtcache_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
)

type base struct {
	ID      int64 `json:"id"`
	Hidden  string
	Created string `json:"created_at"`
}

type Audit struct {
	By     string `json:"by"`
	Hidden string
}

type unexportedAudit struct {
	Hidden string
	Note   string
}

type shapes struct {
	base
	*Audit
	Named    Audit `json:"named"`
	Tagged   base  `json:"tagged_base,omitempty"`
	Name     string
	Both     int    `json:"both"`
	Both2    int    `json:"BOTH"`
	Skipped  string `json:"-"`
	Odd      string `json:"a b.c"`
	Default  string `json:",omitempty"`
	Kelvin   string `json:"kelvin"`
	Ünï      string
	Children []shapes
	Self     *shapes
}

type ambiguous struct {
	Audit
	unexportedAudit
}

type tagWins struct {
	Audit
	Other struct{} `json:"other"`
	Tag   string   `json:"Hidden"`
}

type Recursive struct {
	*Recursive
	Deep string
}

type private struct {
	*unexportedAudit
	Name string
}

var fieldPayloads = []string{
	`{"id":1,"created_at":"c","hidden":"h","by":"me","name":"n","Name":"N","both":1,"BOTH":2,"Both":3}`,
	`{"named":{"by":"x","Hidden":"y"},"tagged_base":{"id":5},"Skipped":"s","-":"dash","a b.c":"odd","BadTag":"bad","Default":"d"}`,
	`{"private":"p","ÜNÏ":"u","Kelvin":"k","kelvin":"K","Note":"note","deep":"deep","Other":{},"unknown":[1,{"a":"}"}],"HIDDEN":"x"}`,
	`{"\u0069d":7,"n\u0061me":"escaped","children":[{"id":1,"by":"b"},{"id":2}],"self":{"self":{"id":9}}}`,
	" {\n\t\"id\" : 3 ,\r \"by\" : \"white space\" } ",
	`{}`,
}

// A struct must be filled in the same fields as encoding/json fills: people's tags are made for it. When this fails, a
// field is empty, or filled from another column.
func TestDecodeMatchesFieldsAsEncodingJSON(t *testing.T) {
	decode := wtcache.NewDecoder(nil)
	for _, typ := range []reflect.Type{
		reflect.TypeFor[shapes](), reflect.TypeFor[ambiguous](), reflect.TypeFor[tagWins](), reflect.TypeFor[Recursive](), reflect.TypeFor[private](), reflect.TypeFor[Audit](),
	} {
		for _, payload := range fieldPayloads {
			want, got := reflect.New(typ), reflect.New(typ)
			wantErr := json.Unmarshal([]byte(payload), want.Interface())
			for range 2 { // the second time the order of the members is known
				got = reflect.New(typ)
				if err := decode([]byte(payload), got.Interface()); (err != nil) != (wantErr != nil) {
					t.Errorf("%s %s: %v, encoding/json says %v", typ, payload, err, wantErr)
				}
			}
			if wantErr == nil && !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%s %s: %+v, encoding/json gives %+v", typ, payload, got.Elem(), want.Elem())
			}
		}
	}
}

type reused struct {
	ID      int
	Name    string
	Tags    []string
	Attrs   map[string]int `json:"attrs"`
	Nick    *string
	Seen    *time.Time
	Score   sql.NullFloat64
	Doc     Audit `json:"doc"`
	Outside string
}

// A loop that reads row after row into one variable must not see anything of the row before, nor may an earlier copy of
// the variable change. A field that no column fills is the caller's own.
func TestDecodeReplacesTheRowBefore(t *testing.T) {
	decode := wtcache.NewDecoder(map[string]string{"id": "int4", "tags": "_text", "attrs": "jsonb", "doc": "jsonb", "seen": "timestamptz"})
	full := `{"id":1,"name":"a","tags":["x","y"],"attrs":{"a":1},"nick":"n","seen":"2024-02-29T00:00:00Z","score":1.5,"doc":{"by":"me"}}`
	empty := `{"id":null,"name":null,"tags":null,"attrs":null,"nick":null,"seen":null,"score":null,"doc":null}`
	other := `{"id":2,"name":"b","tags":["z"],"attrs":{"b":2},"nick":"m","seen":"2025-01-01T00:00:00Z","score":2.5,"doc":{"hidden":"h"}}`
	row := reused{Outside: "mine"}
	read := func(payload string) reused {
		t.Helper()
		if err := decode([]byte(payload), &row); err != nil {
			t.Fatal(err)
		}
		return row
	}
	first := read(full)
	second := read(other)
	seen := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	want := reused{1, "a", []string{"x", "y"}, map[string]int{"a": 1}, pointerTo("n"), &seen, sql.NullFloat64{Float64: 1.5, Valid: true}, Audit{By: "me"}, "mine"}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("the first row has become %+v", first)
	}
	if want := (Audit{Hidden: "h"}); second.Doc != want || len(second.Attrs) != 1 || len(second.Tags) != 1 {
		t.Errorf("the second row has something of the first: %+v", second)
	}
	if got := read(empty); !reflect.DeepEqual(got, reused{Outside: "mine"}) {
		t.Errorf("a row of NULLs is %+v", got)
	}
	read(full)
	if got := read(`{"name":"c"}`); got.ID != 1 || got.Name != "c" || len(got.Tags) != 2 {
		t.Errorf("fields that the payload does not have have changed: %+v", got)
	}
}

// Every reader of an entry shares its decoder, and what one of them learns must be right for all.
func TestDecodeOrderOfMembers(t *testing.T) {
	decode := wtcache.NewDecoder(map[string]string{"id": "int8", "name": "text", "attrs": "jsonb"})
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 500 {
				members := []string{fmt.Sprintf(`"id":%d`, i), fmt.Sprintf(`"name":"n%d"`, i), `"more":[1]`, `"attrs":{"a":1}`}
				for j := range (i + worker) % len(members) {
					members[j], members[len(members)-1-j] = members[len(members)-1-j], members[j]
				}
				row := &reused{}
				err := decode([]byte("{"+strings.Join(members[:2+i%3], ",")+"}"), &row)
				if err != nil || row.ID != 0 && row.ID != i || row.Name != "" && row.Name != fmt.Sprintf("n%d", i) {
					t.Errorf("%v: %+v (%v)", members, row, err)
				}
			}
		})
	}
	all.Wait()
}
