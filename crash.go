package wtcache

// crashHook is nil in production. Tests set it to stop, or to kill the process, at
// a named point of a write: "settled", "fenced", "committed", "applied".
var crashHook func(point string)

func crashPoint(name string) {
	if crashHook != nil {
		crashHook(name)
	}
}
