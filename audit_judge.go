package wtcache

import (
	"context"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// auditVerdict is what is made of a key.
type auditVerdict int

const (
	isConsistent auditVerdict = iota
	isStale
	isOrphan
	isDamaged
	isForeign
	isOtherSchema
	isFenced
	isGone
	isUnserved
	isUndecided
	isUnjudged
	isSkipped
)

// suspicion says that an entry and a row differ, which may be because one was read before a
// commit and the other after it.
func (v auditVerdict) suspicion() bool { return v == isStale || v == isOrphan }

// tally gives the counter of a verdict, and the name that it has as a fault.
func (c *AuditCounts) tally(v auditVerdict) (counter *int64, fault string) {
	switch v {
	case isStale:
		return &c.Stale, "stale"
	case isOrphan:
		return &c.Orphan, "orphan"
	case isDamaged:
		return &c.Damaged, "damaged"
	case isForeign:
		return &c.Foreign, "foreign"
	case isOtherSchema:
		return &c.OtherSchema, ""
	case isFenced:
		return &c.Fenced, ""
	case isGone:
		return &c.Gone, ""
	case isUnserved:
		return &c.Unserved, ""
	case isUndecided:
		return &c.Undecided, ""
	case isUnjudged:
		return &c.Unjudged, ""
	}
	return &c.Consistent, ""
}

// suspect is a key under judgement.
type suspect struct {
	asked   asked
	entry   cachesync.Examined
	fact    fact
	verdict auditVerdict
	since   time.Time // when it was first seen to differ
}

// suspicious says that it has to be looked at again: see settle.
func (s *suspect) suspicious() bool {
	return s.verdict.suspicion() || s.entry.Headless && (s.verdict == isDamaged || s.verdict == isForeign)
}

// look judges some keys, and repairs them.
func (a *auditor) look(ctx context.Context, t target, keys []string) error {
	var asks []asked
	for _, key := range keys {
		if texts, ok := t.entry.Key.Values(key); ok && t.mayHold(texts) {
			asks = append(asks, asked{texts, key})
		} else {
			a.entry().Skipped++
		}
	}
	if len(asks) == 0 {
		return nil
	}
	if err := paced(ctx, a.limit, len(asks)); err != nil {
		return err
	}
	all, err := a.meetAll(ctx, t, asks)
	if err != nil {
		return err
	}
	a.pace(all)
	if err := a.settle(ctx, t, all); err != nil {
		return err
	}
	return a.record(ctx, t, all)
}

// pace chooses the size of the next batch by the payloads of this one.
func (a *auditor) pace(all []*suspect) {
	size := 1
	for _, s := range all {
		size += len(s.entry.Value.Payload)
	}
	a.batch = max(1, min(auditBatch, 2*a.batch, auditBytes*len(all)/size))
}

// cover counts which rows of the table are cached. In a sample those that are, and that Redis has not
// brought before, are judged like others.
func (a *auditor) cover(ctx context.Context, t target, keys []string) error {
	if err := paced(ctx, a.limit, len(keys)); err != nil {
		return err
	}
	var there []string
	for _, e := range a.cache.engine.sync.Examine(ctx, keys, t.format(), t.entry.Schema) {
		if e.Err != nil {
			return e.Err
		}
		a.entry().Rows++
		if e.State == cachesync.EntryAbsent {
			a.entry().Absent++
		} else if a.opts.Sample > 0 && a.meet(e.Key) {
			there = append(there, e.Key)
		}
	}
	return a.look(ctx, t, there)
}

// meetAll looks at entries, and then at their rows.
func (a *auditor) meetAll(ctx context.Context, t target, asks []asked) ([]*suspect, error) {
	entries, err := a.examine(ctx, t, asks)
	if err != nil {
		return nil, err
	}
	facts, err := a.facts(ctx, t, asks)
	if err != nil {
		return nil, err
	}
	all := make([]*suspect, len(asks))
	for i := range asks {
		all[i] = &suspect{asked: asks[i], entry: entries[i], fact: facts[i], since: time.Now()}
		all[i].verdict = judge(&entries[i], &facts[i], asks[i].key)
	}
	return all, nil
}

func (a *auditor) examine(ctx context.Context, t target, asks []asked) ([]cachesync.Examined, error) {
	keys := make([]string, len(asks))
	for i, ask := range asks {
		keys[i] = ask.key
	}
	entries := a.cache.engine.sync.Examine(ctx, keys, t.format(), t.entry.Schema)
	for _, e := range entries {
		if e.Err != nil {
			return nil, e.Err
		}
	}
	return entries, nil
}

// judge compares an entry with what was read of its row.
func judge(e *cachesync.Examined, f *fact, key string) auditVerdict {
	switch e.State {
	case cachesync.EntryAbsent:
		if len(e.Tokens) > 0 {
			return isFenced
		}
		return isGone
	case cachesync.EntryOtherSchema:
		return isOtherSchema
	case cachesync.EntryDamaged, cachesync.EntryForeign:
		// A header that was evicted alone: wtcache's readers are served nothing, and others what is right.
		if e.Headless && f.found && f.fits && f.key == key && string(e.Value.Payload) == string(f.payload) {
			return isOtherSchema
		}
	}
	switch e.State {
	case cachesync.EntryDamaged:
		return isDamaged
	case cachesync.EntryForeign:
		if !f.found {
			return isSkipped // of a row that there is not; it may well be another program's
		}
		return isForeign
	}
	negative := string(e.Value.Payload) == cachesync.NegativePayload
	switch {
	case f.foreign:
		return isOrphan // the column's type has no such value
	case f.several, !f.found && f.secured:
		return isUnjudged
	case !f.found && negative:
		return isConsistent
	case !f.found, f.key != key, !f.fits && !negative:
		return isOrphan
	case negative:
		return isStale
	case !f.spelt:
		return isUnjudged
	case string(e.Value.Payload) == string(f.payload):
		return isConsistent
	}
	return isStale
}

// auditPauses are those between looks at a key that was written meanwhile.
var auditPauses = [...]time.Duration{0, 10 * time.Millisecond, 40 * time.Millisecond, 160 * time.Millisecond, 640 * time.Millisecond}

// settle looks again at what differs, until it is certain. Of a look at the entry, then at the
// row, then at the entry once more, it asks that the entry was one and the same, stored once: the same
// version, time of writing, checksum and payload (in format versioned, under the same name). Then:
//
//  1. The entry was stored before the row's snapshot was taken. What an entry shows was
//     committed and visible when it was stored; commits of one row are ordered; so it shows the
//     row as in the snapshot, or an older one. It differs: it is older.
//  2. The commit that it lacks was visible in the snapshot, which was taken before the last look at the
//     entry began. Of a strict rule nothing is served that is older than a commit which was
//     visible before (docs/PROTOCOL.md, "visible"): from before its COMMIT until its apply its
//     writer's token is on the key, under which no value stands. So the writer is gone, and has
//     left an old value: the entry is stale, however many writers are at work.
//
// If the entry is another one at the end, nothing is proved, and it is looked at anew.
//
// An eventual rule has no fence; its commit is visible before its entry is absent. There the
// last look comes later by Grace, within which a writer that lives has applied. With
// redis_down: queue a commit may pass Redis, but only after readers were told not to serve the rule: what
// differs then is unserved, as is what this process owes, and what is from before a loss of data. This
// is asked between the snapshot and the last look: an outage whose commit the snapshot shows is known by then, or is over, and then its
// keys were made absent before the last look. (Asked after it, an outage that ended meanwhile would leave what was not served as stale.)
// A standby may be ahead of the primary, and a fill from it, where no fence bars it; the second
// bracket, which every suspicion gets, is some milliseconds later.
func (a *auditor) settle(ctx context.Context, t target, all []*suspect) error {
	var open []*suspect
	for _, s := range all {
		if s.suspicious() {
			open = append(open, s)
		}
	}
	for _, pause := range auditPauses {
		if len(open) == 0 {
			return nil
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		var err error
		if open, err = a.bracket(ctx, t, open); err != nil {
			return err
		}
	}
	for _, s := range open {
		s.verdict = isUndecided
	}
	return nil
}

// bracket looks at entry, row and entry, and gives those of which nothing is certain.
func (a *auditor) bracket(ctx context.Context, t target, open []*suspect) (rest []*suspect, err error) {
	asks := make([]asked, len(open))
	for i, s := range open {
		asks[i] = s.asked
	}
	now, err := a.meetAll(ctx, t, asks)
	if err != nil {
		return nil, err
	}
	if a.cache.engine.eventual(t.table) {
		if err := wait(ctx, a.opts.Grace); err != nil {
			return nil, err
		}
	}
	served := a.cache.engine.watched(ctx, t.table, 0)
	after, err := a.examine(ctx, t, asks)
	if err != nil {
		return nil, err
	}
	for i, s := range open {
		if !now[i].suspicious() {
			s.entry, s.fact, s.verdict = now[i].entry, now[i].fact, now[i].verdict
			continue
		}
		if !now[i].entry.Same(&after[i]) {
			s.since = time.Now()
			rest = append(rest, s)
			continue
		}
		s.entry, s.fact, s.verdict = after[i], now[i].fact, now[i].verdict
		e := &s.entry
		if s.verdict.suspicion() && (!served || e.Distrusted || e.Untrusted != nil || a.cache.engine.owes(e.Key)) {
			s.verdict = isUnserved
		}
	}
	return rest, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// record counts what was found, and makes the keys with a fault absent.
func (a *auditor) record(ctx context.Context, t target, all []*suspect) error {
	entry := a.entry()
	var faulty []string
	first := len(entry.Examples)
	for _, s := range all {
		fault := a.count(t, s)
		if fault == "" {
			continue
		}
		faulty = append(faulty, s.asked.key)
		if len(entry.Examples) < maxExamples {
			entry.Examples = append(entry.Examples, s.example(fault))
		}
	}
	entry.Faulty += int64(len(faulty))
	if a.opts.Repair && len(faulty) > 0 {
		if err := a.cache.engine.sync.Invalidate(ctx, faulty, ""); err != nil {
			return err
		}
		entry.Repaired += int64(len(faulty))
		for i := first; i < len(entry.Examples); i++ {
			entry.Examples[i].Repaired = true
		}
	}
	if a.opts.Progress != nil {
		done := int64(0)
		for i := range a.report.Entries {
			done += a.report.Entries[i].Checked
		}
		a.opts.Progress(done, a.total)
	}
	return nil
}

func (s *suspect) example(fault string) AuditExample {
	x := AuditExample{Key: s.asked.key, Fault: fault, AgeSeconds: max(s.entry.Age, 0).Seconds()}
	if s.verdict == isStale || s.verdict == isOrphan {
		x.StaleSeconds = time.Since(s.since).Seconds()
		if ago, known := s.fact.changed(); known {
			x.StaleSeconds = ago.Seconds()
		}
	}
	return x
}

// count counts one key, and names its fault, "" for none.
func (a *auditor) count(t target, s *suspect) (fault string) {
	entry := a.entry()
	if s.verdict == isSkipped {
		entry.Skipped++
		return ""
	}
	entry.Checked++
	counter, fault := entry.tally(s.verdict)
	*counter++
	e := &s.entry
	flag := func(counter *int64, name string) {
		*counter++
		if fault == "" {
			fault = name
		}
	}
	if e.Endless && e.State != cachesync.EntryForeign {
		flag(&entry.NoTTL, "no_ttl")
	}
	if e.State != cachesync.EntryGood {
		return fault
	}
	entry.Ages.add(max(e.Age, 0))
	if life := t.life(e.Value.Payload); life > 0 && max(e.Age, e.Life) > life+auditSlack {
		flag(&entry.OverTTL, "over_ttl")
	}
	if s.verdict != isUnserved && (e.Age < -auditSlack || s.fact.version != "" && e.Value.Version > s.fact.version) {
		flag(&entry.Ahead, "ahead")
	}
	a.change(s)
	return fault
}

// auditSlack is what two looks at a clock may differ by.
const auditSlack = time.Second

// change counts towards Polaris' figure.
func (a *auditor) change(s *suspect) {
	right := s.verdict == isConsistent
	if !right && !s.verdict.suspicion() || right && !s.fact.found {
		return
	}
	ago, known := s.fact.changed()
	if !known {
		ago = s.entry.Age
	}
	a.report.noteChange(ago, right)
}

// life is the longest life that an entry is given, 0 where that is not known.
func (t target) life(payload []byte) time.Duration {
	if string(payload) == cachesync.NegativePayload {
		return t.entry.Negative
	}
	return t.entry.TTL
}
