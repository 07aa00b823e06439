package torture

import (
	"context"
	"time"
)

var linkKinds = []kind{
	once(act("writer's Redis held", onLink((*World).Writer, true, (*Link).Hold), healLinks)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("writer's Redis refused", onLink((*World).Writer, true, (*Link).Refuse), healLinks)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("all writers' Redis refused", onWriters((*Link).Refuse), healLinks)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("reader's Redis held", onLink((*World).Reader, true, (*Link).Hold), healLinks)).on(Single).alsoByHand(),
	once(act("writer's Postgres held", onLink((*World).Writer, false, (*Link).Hold), healLinks)).alsoByHand().lasting(beyondFences),
	once(act("writer's Postgres cut", onLink((*World).Writer, false, (*Link).Refuse), healLinks)).alsoByHand(),
	once(act("reader's Postgres held", onLink((*World).Reader, false, (*Link).Hold), healLinks)).alsoByHand(),
	once(act("all Redis held", onLinks(true, (*Link).Hold), healLinks)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("all Redis refused", onLinks(true, (*Link).Refuse), healLinks)).on(Single).alsoByHand(),
	once(act("slow Redis", onLinks(true, slowly), healLinks)).on(Single).alsoByHand(),
	once(act("very slow Redis", onLinks(true, slower), healLinks)).on(Single).alsoByHand(),
	once(act("lossy Redis", onLinks(true, loosely), healLinks)).on(Single).alsoByHand(),
	once(act("slow Postgres", onLinks(false, slowly), healLinks)).alsoByHand(),
	once(act("lossy Postgres", onLinks(false, loosely), healLinks)).alsoByHand(),
}

// A slow link takes a good part of a call's time (250 ms), a very slow one often more than all of it.
func slowly(l *Link)  { l.Slow(60 * time.Millisecond) }
func slower(l *Link)  { l.Slow(400 * time.Millisecond) }
func loosely(l *Link) { l.Lossy(20) }

func onLink(which func(*World) *Worker, toRedis bool, do func(*Link)) func(context.Context, *World) error {
	return func(_ context.Context, w *World) error {
		k := which(w)
		if toRedis {
			do(k.Redis)
		} else {
			do(k.Postgres)
		}
		return nil
	}
}

func onLinks(toRedis bool, do func(*Link)) func(context.Context, *World) error {
	return func(_ context.Context, w *World) error {
		for _, l := range w.Links(toRedis) {
			do(l)
		}
		return nil
	}
}

func onWriters(do func(*Link)) func(context.Context, *World) error {
	return func(_ context.Context, w *World) error {
		for _, k := range w.workers {
			if k.role == writer {
				do(k.Redis)
			}
		}
		return nil
	}
}

func healLinks(_ context.Context, w *World) error {
	for _, l := range append(w.Links(true), w.Links(false)...) {
		l.Heal()
	}
	return nil
}
