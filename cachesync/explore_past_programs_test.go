package cachesync

// Programs of writers past Redis, with readers under a watch.

func (p process) pastRedis(box uint8) process { p.past, p.box = true, box; return p }

var (
	aWatch   = process{kind: watch}
	aDrainer = process{kind: drainer}
)

func pastPrograms() []program {
	lock, fence := lockFirstWriter, fenceFirstWriter
	past, other := lock.pastRedis(0), lock.pastRedis(1)
	coarse := coarseWriter.pastRedis(0)
	twoKeysPast := onOneKey("past Redis, two keys", past.to(0, 1), aReader, readsKey(1), aWatch, aDrainer).with(faults{late: 1, expiry: outlive})
	twoKeysPast.keys = twoKeys
	return []program{
		onOneKey("past Redis", past.mayFail(), fence, aReader, aWatch, aDrainer).with(faults{expiry: outlive}),
		onOneKey("past Redis, lock first", past, lock.mayFail(), aReader, aReader, aWatch, aDrainer).with(faults{expiry: outlive}),
		onOneKey("past Redis, killed", past, fence, aReader, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, expiry: outlive}),
		onOneKey("past Redis, late requests", past, fence, aReader, aWatch, aDrainer).with(faults{late: 1, expiry: outlive}),
		onOneKey("past Redis, two processes", past, other, aReader, aWatch, aDrainer).with(faults{expiry: outlive, paused: true, slow: 1}),
		onOneKey("past Redis, two outages", past, past, aReader, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, expiry: outlive}),
		onOneKey("past Redis, paused", past, past, aReader, aWatch, aDrainer).with(faults{doubt: 1, expiry: outlive, paused: true}),
		onOneKey("past Redis, two drainers", past, fence, aReader, aWatch, aDrainer, aDrainer).with(faults{crash: 1, expiry: outlive}),
		twoKeysPast,
		onOneKey("past Redis, coarse", coarse, lock, aReader, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, expiry: outlive}),
		onOneKey("past Redis, coarse, late requests", coarse, aReader, aWatch, aDrainer).with(faults{late: 1, expiry: outlive}),
		onOneKey("past Redis, flights", past, fence, aFlight, anArrival, aWatch, aDrainer).with(faults{expiry: outlive}),
		onOneKey("past Redis, flights, killed", past, aFlight.waiting(), anArrival, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, expiry: outlive, abandon: true}),
		onOneKey("everything owed", past, fence.pastRedis(0), aReader, aWatch, aDrainer).with(faults{expiry: outlive, everything: true}),
		onOneKey("everything owed, killed", past, fence.pastRedis(0), aReader, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, expiry: outlive, everything: true}),
		onOneKey("everything owed, paused", past, past.mayFail(), aReader, aWatch, aDrainer).with(faults{expiry: outlive, everything: true, paused: true}),
		onOneKey("everything owed, stopped for long", past, aReader, aReader, aWatch, aDrainer).promising(trueWhenQuiet).with(faults{doubt: 1, expiry: outlive, everything: true, stopped: true}),
	}
}

// longPastPrograms are too large for every day.
func longPastPrograms() []program {
	lock, fence := lockFirstWriter, fenceFirstWriter
	past := lock.pastRedis(0)
	return []program{
		onOneKey("long: past Redis", past, fence, aReader, aWatch, aDrainer).with(faults{crash: 1, doubt: 1, late: 1, expiry: outlive, paused: true, slow: 1}),
		onOneKey("long: past Redis, everything owed", past, past, lock, aReader, aWatch, aDrainer).with(faults{expiry: outlive, everything: true, paused: true}),
	}
}

var pastRules = []brokenRule{
	inClient("readers without a watch", "past Redis", clientRules{watched: true}),
	inClient("an announcement that is not waited for", "past Redis", clientRules{announcementAwaited: true}),
	inClient("a wait that is no longer than the watch", "past Redis, two processes", clientRules{waitOutlastsWatch: true}),
	inClient("a watch that counts from the poll's answer", "past Redis", clientRules{watchFromSending: true}),
	inClient("an outage removed while a row of it is left", "past Redis", clientRules{outageOfRows: true}),
	inClient("an outage removed while a commit under it is under way", "past Redis, paused", clientRules{outageOfOpen: true}),
	inClient("a row written under an outage that was removed", "past Redis, paused", clientRules{insertNeedsOutage: true}),
	inClient("a row deleted before Redis has acknowledged", "past Redis, killed", clientRules{settledBeforeDeleted: true}),
	inClient("rows settled before they are committed", "past Redis", clientRules{committedTaken: true}),
	inScript("a drain that spares leases", "past Redis", leaseSpared),
	inScript("a drain that leaves fences clean", "past Redis, lock first", alwaysLeavesClean),
	inClient("one walk only, past Redis", "past Redis, coarse", clientRules{secondWalk: true}),
	inClient("everything settled while a ticket is out", "everything owed", clientRules{ticketsHeld: true}),
	inClient("everything settled while a commit is in doubt", "everything owed, killed", clientRules{ticketInDoubt: true}),
	inClient("everything settled by others, and not anew", "everything owed, stopped for long", clientRules{stoppedOwes: true}),
	inClient("everything settled before the outage is over", "everything owed", clientRules{everythingHeld: true}),
	inClient("an outage removed while everything is owed", "everything owed", clientRules{outageOfRows: true}),
}
