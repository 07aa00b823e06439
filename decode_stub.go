package wtcache

import (
	"encoding/json"
	"fmt"
)

func decodePayload(payload []byte, dest any) error {
	switch d := dest.(type) {
	case *[]byte:
		*d = payload
		return nil
	case *json.RawMessage:
		*d = payload
		return nil
	case *string:
		*d = string(payload)
		return nil
	}
	if err := json.Unmarshal(payload, dest); err != nil {
		return fmt.Errorf("wtcache: decode payload: %w", err)
	}
	return nil
}
