package demo

import (
	"math/rand/v2"
	"strings"
)

// vocabulary is what the text of the demo is made of.
var vocabulary = strings.Fields(`every host runs one node and every program talks to the node next door the nodes
find each other trust each other and carry the words a name stands for many members a request goes to one of them
nobody keeps a list of addresses no broker sits in the middle and when a member dies the others go on`)

// writeText makes lines of words, at least size bytes long, the same for the
// same seed.
func writeText(size int, seed uint64) string {
	random := rand.New(rand.NewPCG(seed, seed))
	var text strings.Builder
	for text.Len() < size {
		for range 8 + random.IntN(8) {
			text.WriteString(vocabulary[random.IntN(len(vocabulary))])
			text.WriteByte(' ')
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// split cuts text into parts of whole lines of about size bytes each.
func split(text string, size int) []string {
	var parts []string
	for len(text) > size {
		cut := strings.IndexByte(text[size:], '\n')
		if cut < 0 {
			break
		}
		parts = append(parts, text[:size+cut+1])
		text = text[size+cut+1:]
	}
	if text != "" {
		parts = append(parts, text)
	}
	return parts
}

// count tallies the words of text.
func count(text string) map[string]int {
	words := map[string]int{}
	for word := range strings.FieldsSeq(text) {
		words[word]++
	}
	return words
}
