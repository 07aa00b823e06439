package wtcache

// NewDecoder makes the decoder of an entry whose columns have these types.
func NewDecoder(types map[string]string) func(payload []byte, dest any) error {
	return newPayloadDecoder(func(name string) (string, bool) {
		t, ok := types[name]
		return t, ok
	}).decode
}
