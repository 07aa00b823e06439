package statuspage

import "github.com/wtcache/wtcache"

// auditSigns judges the last audit of this process.
func auditSigns(*wtcache.Stats) []Sign { return nil }
