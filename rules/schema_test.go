package rules

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// An editor that underlines a right key, or offers one that Load refuses, is worse than
// none: schema and decoder have to know the same keys and words.
func TestSchemaAndDecoderAgree(t *testing.T) {
	type object struct {
		Properties map[string]struct {
			Enum []string
		}
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema()), &schema); err != nil {
		t.Fatal(err)
	}
	d := &decoder{}
	entry := d.entryFields(newEntry(""))
	top := d.entryFields(newEntry(""))
	d.addRuleFields(top, &Rule{})
	for _, test := range []struct {
		name   string
		schema object
		known  map[string]fieldFunc
	}{{"rule", schema.object, top}, {"entry", schema.Defs["FileEntry"], entry}, {"read", schema.Defs["FileRead"], d.readFields(&ReadDefaults{})}} {
		if got, want := sortedNames(test.schema.Properties), sortedNames(test.known); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %s\nthe decoder %s", test.name, got, want)
		}
		for name, words := range map[string]choice{
			"format": formats, "strategy": strategies, "consistency": consistencies,
			"apply": applies, "redis_down": redisDowns, "capture": captures, "version": versions,
		} {
			if p, ok := test.schema.Properties[name]; ok && !slices.Equal(p.Enum, words.supported) {
				t.Errorf("%s: the schema offers %s for %s, the decoder takes %s", test.name, p.Enum, name, words.supported)
			}
		}
	}
}

func sortedNames(m any) []string {
	var names []string
	for _, key := range reflect.ValueOf(m).MapKeys() {
		names = append(names, key.String())
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
