// Command ruleschema writes rule.schema.json, the JSON Schema of rule files, from the Go
// types in the rules package. "go generate ./rules" runs it in that package's folder.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/wtcache/wtcache/rules"
)

const (
	output  = "rule.schema.json"
	sources = "schema.go" // whose comments become descriptions

	durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	percentPattern  = `^([0-4]?[0-9](\.[0-9]+)?|50(\.0+)?) *%$`
)

func main() {
	schema, err := generate()
	if err == nil {
		err = os.WriteFile(output, schema, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ruleschema:", err)
		os.Exit(1)
	}
}

// generate makes the schema; the working folder has to be that of the rules package,
// because the descriptions come from its source.
func generate() ([]byte, error) {
	file := reflect.TypeFor[rules.File]()
	r := &jsonschema.Reflector{Anonymous: true, ExpandedStruct: true}
	if err := r.AddGoComments(file.PkgPath(), sources); err != nil {
		return nil, fmt.Errorf("read comments of %s: %w", sources, err)
	}
	for name, comment := range r.CommentMap {
		r.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	root := r.ReflectFromType(file)
	root.Title = "wtcache rule"
	root.Description = "One table's rule: which keys its rows have in Redis, and what is stored there."
	entry := root.Definitions[reflect.TypeFor[rules.FileEntry]().Name()]
	constrain(root, entry)
	constrainRead(root, root.Definitions[reflect.TypeFor[rules.FileRead]().Name()])
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return append(out, '\n'), nil
}

// constrain adds what struct tags cannot say.
func constrain(root, entry *jsonschema.Schema) {
	entry.Required = []string{"key"}
	entry.Description = ""
	for _, s := range []*jsonschema.Schema{root, entry} {
		ttl, _ := s.Properties.Get("ttl")
		ttl.Pattern = durationPattern
		setJitter(s)
		rename, _ := s.Properties.Get("rename")
		rename.AdditionalProperties = &jsonschema.Schema{Type: "string", MinLength: ptr(1)}
		for _, list := range []string{"columns", "omit", "via", "invalidate"} {
			if p, ok := s.Properties.Get(list); ok {
				p.Items.MinLength = ptr(1)
			}
		}
	}
	root.AnyOf = []*jsonschema.Schema{
		{Required: []string{"key"}}, {Required: []string{"entries"}}, {Required: []string{"invalidate"}},
	}
	root.Not = &jsonschema.Schema{Required: []string{"key", "entries"}}
	root.DependentRequired = map[string][]string{}
	for p := entry.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key != "key" {
			root.DependentRequired[p.Key] = []string{"key"}
		}
	}
}

// constrainRead gives the durations beside the entries' their form.
func constrainRead(root, read *jsonschema.Schema) {
	read.Description = ""
	negative, _ := root.Properties.Get("negative_ttl")
	negative.Pattern = durationPattern
	for _, name := range []string{"max_age", "wait"} {
		p, _ := read.Properties.Get(name)
		p.Pattern = durationPattern
	}
}

// setJitter allows a number beside the text: 0.1 is "10%".
func setJitter(s *jsonschema.Schema) {
	jitter, _ := s.Properties.Get("jitter")
	jitter.Type = ""
	jitter.OneOf = []*jsonschema.Schema{
		{Type: "string", Pattern: percentPattern},
		{Type: "number", Minimum: "0", Maximum: "0.5"},
	}
}

func ptr(n uint64) *uint64 { return &n }
