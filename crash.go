package wtcache

import "sync/atomic"

// crashHook is nil in production. Tests set it to stop, or to kill the process, at a
// named point of a write. In the order in which a write comes to them:
//
//	written       lock first: the statement has run, and its transaction is open
//	settled       what each key is to hold is known, and Redis knows nothing yet
//	keys fenced   every key has its fence; the barriers of coarse writes are not up yet
//	barred        coarse writes: the barriers are up, nothing is swept yet
//	queued        Redis cannot be fenced, and the outbox has what is owed, in the open transaction
//	fenced        Redis is ready for the COMMIT, or for the statement that commits
//	committed     the COMMIT has been answered, one way or the other
//	behind        apply: async: the keys are about to get what they are to hold, and the caller knows already
//	keys applied  the keys have what they are to hold; barriers still stand
//	applied       all is done but to tell the caller, or left to be done behind it
//	in doubt      no answer came to the COMMIT; the keys are left to the asker
//	asked         the server has said what became of a COMMIT in doubt
//	resolved      that has been carried out
var crashHook atomic.Pointer[func(point string)]

func crashPoint(name string) {
	if hook := crashHook.Load(); hook != nil {
		(*hook)(name)
	}
}
