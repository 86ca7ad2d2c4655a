package discovery

import "math/bits"

// A shuffle is a random order of the numbers below size that takes no memory:
// a Feistel network over the next power of four, walked until it lands below
// size, which takes fewer than four steps on average. Good mixing is wanted, secrecy is not.
type shuffle struct {
	size uint32 // at least 1
	half int    // bits of half a number
	seed uint64
}

func newShuffle(size uint32, seed uint64) shuffle {
	return shuffle{size: size, half: max(1, (bits.Len32(size-1)+1)/2), seed: seed}
}

// at is the i-th number of the order; i must be below size.
func (s shuffle) at(i uint32) uint32 {
	for {
		if i = s.permute(i); i < s.size {
			return i
		}
	}
}

func (s shuffle) permute(i uint32) uint32 {
	mask := uint32(1)<<s.half - 1
	left, right := i>>s.half, i&mask
	for round := range uint64(4) {
		left, right = right, left^(uint32(mix(s.seed+round<<32+uint64(right)))&mask)
	}
	return left<<s.half | right
}

// mix scatters the bits of x over the result (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
