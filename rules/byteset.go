package rules

// byteSet is a set of bytes.
type byteSet [4]uint64

var (
	controlBytes = byteSet{0: 1<<32 - 1}.union(byteSet{}.with(0x7f))
	allBytes     = byteSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	upperHex     = setOf("0123456789ABCDEF")
)

func setOf(s string) byteSet {
	var b byteSet
	for i := 0; i < len(s); i++ {
		b = b.with(s[i])
	}
	return b
}

func (b byteSet) with(c byte) byteSet {
	b[c>>6] |= 1 << (c & 63)
	return b
}

func (b *byteSet) has(c byte) bool { return b[c>>6]&(1<<(c&63)) != 0 }

func (b byteSet) union(o byteSet) byteSet {
	for i := range b {
		b[i] |= o[i]
	}
	return b
}

func (b byteSet) without(o byteSet) byteSet {
	for i := range b {
		b[i] &^= o[i]
	}
	return b
}

func (b byteSet) meets(o byteSet) bool {
	return b[0]&o[0]|b[1]&o[1]|b[2]&o[2]|b[3]&o[3] != 0
}
