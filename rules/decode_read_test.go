package rules

import (
	"reflect"
	"testing"
	"time"
)

// A rule that says "do not wait" must not be read as one that says nothing, nor a default
// that is written out as a fault.
func TestReadDefaults(t *testing.T) {
	short := func(d time.Duration) *time.Duration { return &d }
	for text, want := range map[string]struct {
		read     ReadDefaults
		negative time.Duration
	}{
		"negative_ttl: 0":                {ReadDefaults{}, 0},
		"negative_ttl: 0s":               {ReadDefaults{}, 0},
		"negative_ttl: 1s":               {ReadDefaults{}, time.Second},
		"negative_ttl: 8760h":            {ReadDefaults{}, 365 * 24 * time.Hour},
		"read: {}":                       {ReadDefaults{}, 0},
		"read: {wait: 0}":                {ReadDefaults{Wait: short(0)}, 0},
		"read: {wait: 0s, max_age: 0s}":  {ReadDefaults{Wait: short(0)}, 0},
		"read: {wait: 1m, max_age: 10m}": {ReadDefaults{Wait: short(time.Minute), MaxAge: 10 * time.Minute}, 0},
		"read: {replica: false}":         {ReadDefaults{}, 0},
		"read: {replica: True}":          {ReadDefaults{Replica: true}, 0},
		"ttl: 2h\nread: {max_age: 2h}":   {ReadDefaults{MaxAge: 2 * time.Hour}, 0},
	} {
		r := loadOne(t, "table: users\nkey: 'user:{id}'\n"+text+"\n")
		if !reflect.DeepEqual(r.Read, want.read) || r.NegativeTTL != want.negative {
			t.Errorf("%s: got %+v and negative_ttl %s", text, r.Read, r.NegativeTTL)
		}
	}
	r := loadOne(t, "table: users\nentries: [{key: 'a:{a}', ttl: 1h}, {key: 'b:{b}', ttl: 1m}]\nread: {max_age: 30m}\n")
	if r.Read.MaxAge != 30*time.Minute {
		t.Errorf("max_age below the longest ttl alone: got %s", r.Read.MaxAge)
	}
}
