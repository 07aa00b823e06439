package main

import (
	"bytes"
	"testing"

	"github.com/wtcache/wtcache/rules"
)

// Editors check rule files by the schema that is checked in: it has to be that of the
// types as they are.
func TestSchemaIsUpToDate(t *testing.T) {
	t.Chdir("../../../rules")
	schema, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(schema, []byte(rules.Schema())) {
		t.Error("rules/rule.schema.json is out of date: run go generate ./rules")
	}
}
