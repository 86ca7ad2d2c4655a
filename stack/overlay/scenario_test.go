package overlay

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// TestScenarios plays the stories in testdata/scenarios. A line is a command, and what
// follows # is a remark; nodes are numbers, as in 3 or 1-6, or all.
//
//	seeds 20                       the story is played with so many seeds (else 3)
//	latency 1ms 5ms                of a message, from and to
//	loss 2%                        of messages, which come 100 ms later
//	start 12                       so many nodes, each told of one that was there before
//	group demo 1-6                 they host a member of the group each
//	announce demo 3 5              node 3 hosts 5 members of it
//	watch demo all                 they watch it
//	run 2s
//	kill 3
//	leave 3                        it says goodbye, and ends a second later
//	stall 5 400ms
//	cut 1-4                        they are apart from the others
//	heal                           all can reach each other, and discovery sees it
//	churn 10 per minute for 1m     a node is killed and another one started, that often
//	chaos for 20s                  joins, leaves, kills, stalls, partitions, announcements
//	lookup demo 7 within 1s        node 7 finds the nodes that are closest to the key
//	expect views within 1s         every view shows who hosts members, and nobody else
//	expect links within 1s         every node has links to those closest to it, none to the dead
//	expect confirmed within 1s     all announcements are
//	expect no alarm                no living node was given up as silent
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		lines := strings.Split(string(text), "\n")
		seeds := 3
		if rest, ok := strings.CutPrefix(lines[0], "seeds "); ok {
			seeds, err = strconv.Atoi(rest)
			require.NoError(t, err)
			lines[0] = ""
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			simulate(t, seeds, func(s *sim) { (&scenario{sim: s}).play(file, lines) })
		})
	}
}

// A scenario is a story that is played.
type scenario struct {
	*sim
	watched []Key // what all nodes watch, those that come later too
	kept    []Group
}

func (sc *scenario) play(file string, lines []string) {
	for i, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			at := fmt.Sprintf("%s:%d: %s", file, i+1, strings.TrimSpace(line))
			command := scenarioCommands[words[0]]
			require.NotNil(sc.t, command, at)
			command(sc, at, words[1:])
		}
	}
}

var scenarioCommands = map[string]func(sc *scenario, at string, words []string){
	"latency": func(sc *scenario, at string, w []string) {
		from, to := sc.duration(at, w, 0), sc.duration(at, w, 1)
		sc.latency = func(_, _ *simNode) time.Duration { return from + time.Duration(sc.rng.Int64N(int64(to-from)+1)) }
	},
	"loss": func(sc *scenario, at string, w []string) {
		sc.loss = float64(sc.number(at, strings.TrimSuffix(w[0], "%"))) / 100
	},
	"start": func(sc *scenario, at string, w []string) {
		for range sc.number(at, w[0]) {
			sc.startOne()
		}
	},
	"group": func(sc *scenario, at string, w []string) {
		for _, n := range sc.set(at, w[1]) {
			n.announce(sc.groupOf(w[0]), 1)
		}
	},
	"announce": func(sc *scenario, at string, w []string) {
		sc.set(at, w[1])[0].announce(sc.groupOf(w[0]), uint32(sc.number(at, w[2])))
	},
	"watch": func(sc *scenario, at string, w []string) {
		for _, n := range sc.set(at, w[1]) {
			n.step(watch{sc.groupOf(w[0])})
		}
		if w[1] == "all" {
			sc.watched = append(sc.watched, sc.groupOf(w[0]).Key())
		}
	},
	"run": func(sc *scenario, at string, w []string) { sc.run(sc.duration(at, w, 0)) },
	"kill": func(sc *scenario, at string, w []string) {
		for _, n := range sc.set(at, w[0]) {
			n.kill()
		}
	},
	"leave": func(sc *scenario, at string, w []string) {
		for _, n := range sc.set(at, w[0]) {
			sc.leave(n)
		}
	},
	"stall": func(sc *scenario, at string, w []string) {
		for _, n := range sc.set(at, w[0]) {
			n.stall(sc.duration(at, w, 1))
		}
	},
	"cut": func(sc *scenario, at string, w []string) { sc.part(sc.set(at, w[0])) },
	"heal": func(sc *scenario, at string, w []string) {
		sc.heal()
		sc.discover()
	},
	"churn":  (*scenario).churn,
	"chaos":  (*scenario).chaos,
	"lookup": (*scenario).lookup,
	"expect": (*scenario).expect,
}

func (sc *scenario) number(at, word string) int {
	n, err := strconv.Atoi(word)
	require.NoError(sc.t, err, at)
	return n
}

func (sc *scenario) duration(at string, words []string, i int) time.Duration {
	require.Greater(sc.t, len(words), i, at)
	d, err := time.ParseDuration(words[i])
	require.NoError(sc.t, err, at)
	return d
}

// set is the nodes that words name and that live.
func (sc *scenario) set(at, word string) []*simNode {
	if word == "all" {
		return sc.alive()
	}
	first, last, ranged := strings.Cut(word, "-")
	a := sc.number(at, first)
	b := a
	if ranged {
		b = sc.number(at, last)
	}
	require.LessOrEqual(sc.t, b, len(sc.nodes), at)
	return slices.Clone(sc.nodes[a-1 : b])
}

func (sc *scenario) groupOf(name string) Group {
	g := Group{KindCluster, name}
	if _, known := hosted[g.Key()]; !known && !slices.Contains(sc.kept, g) {
		sc.kept = append(sc.kept, g)
	}
	return g
}

func (sc *scenario) startOne() *simNode {
	others := sc.alive()
	n := sc.start()
	for _, key := range sc.watched {
		i := slices.IndexFunc(sc.kept, func(g Group) bool { return g.Key() == key })
		if i < 0 {
			n.step(watch{hosted[key]})
		} else {
			n.step(watch{sc.kept[i]})
		}
	}
	if len(others) > 0 {
		n.offer(others[sc.rng.IntN(len(others))])
	}
	return n
}

func (sc *scenario) leave(n *simNode) {
	if n.core.leaving {
		return
	}
	for key, h := range n.history {
		n.history[key] = append(h, 0)
	}
	n.lastBatch++
	n.step(leave{n.lastBatch})
	sc.post(sc.now.Add(time.Second), nil, n.kill)
}

func (sc *scenario) part(side []*simNode) {
	in := map[*simNode]bool{}
	for _, n := range side {
		in[n] = true
	}
	sc.cut = func(a, b *simNode) bool { return in[a] != in[b] }
}

// discover lets every node see another one, as probing does that never stops.
func (sc *scenario) discover() {
	alive := sc.alive()
	for i, n := range alive {
		if o := alive[(i+1)%len(alive)]; o != n {
			n.offer(o)
		}
	}
}

func (sc *scenario) churn(at string, w []string) {
	require.Len(sc.t, w, 5, at)
	every := time.Minute / time.Duration(sc.number(at, w[0]))
	for end := sc.now.Add(sc.duration(at, w, 4)); sc.now.Before(end); sc.run(every) {
		alive := sc.alive()
		old := alive[sc.rng.IntN(len(alive))]
		old.kill()
		n := sc.startOne()
		for _, key := range slices.SortedFunc(maps.Keys(old.history), func(a, b Key) int { return link.ID(a).Compare(link.ID(b)) }) {
			n.announce(old.core.groups[key].Group, 1)
		}
	}
}

func (sc *scenario) chaos(at string, w []string) {
	require.Len(sc.t, w, 2, at)
	g := sc.groupOf("demo")
	for end := sc.now.Add(sc.duration(at, w, 1)); sc.now.Before(end); {
		alive := slices.DeleteFunc(sc.alive(), func(n *simNode) bool { return n.core.leaving })
		n := alive[sc.rng.IntN(len(alive))]
		switch what := sc.rng.IntN(16); {
		case what < 2:
			sc.startOne().announce(g, 1)
		case what == 2 && len(alive) > 12:
			sc.leave(n)
		case what == 3 && len(alive) > 12:
			n.kill()
		case what < 6:
			n.stall(time.Duration(sc.rng.Int64N(int64(3 * time.Second))))
		case what == 6:
			sc.part(alive[:1+sc.rng.IntN(len(alive)-1)])
		case what < 9:
			sc.heal()
			sc.discover()
		case what == 9:
			sc.breakLink()
		case sc.now.After(n.stalled):
			n.announce(g, uint32(sc.rng.IntN(4)))
		}
		sc.run(time.Duration(sc.rng.Int64N(int64(400 * time.Millisecond))))
	}
	sc.heal()
	sc.discover()
}

func (sc *scenario) lookup(at string, w []string) {
	require.Len(sc.t, w, 4, at)
	key := link.ID(sc.groupOf(w[0]).Key())
	n := sc.set(at, w[1])[0]
	var got []link.ID
	n.step(do(func(c *core) {
		c.lookup(key, func(_ *core, l *lookup) {
			for _, x := range l.list {
				if x.state != failed {
					got = append(got, x.id)
				}
			}
		})
	}))
	sc.until(sc.duration(at, w, 3), at, func() bool { return got != nil })
	others := slices.DeleteFunc(sc.alive(), func(o *simNode) bool { return o == n })
	slices.SortFunc(others, func(a, b *simNode) int { return closer(key, a.id, b.id) })
	for i := range keepers {
		require.Equal(sc.t, others[i].id, got[i], "%s: the closest but %d", at, i)
	}
}

func (sc *scenario) expect(at string, w []string) {
	if strings.Join(w, " ") == "no alarm" {
		for _, a := range sc.alarms {
			require.False(sc.t, a.who.alive, "%s: %x gave up %x", at, a.by.id[:4], a.who.id[:4])
		}
		return
	}
	require.Len(sc.t, w, 3, at)
	what := map[string]func() bool{
		"views": func() bool { return sc.agreed(sc.alive()) },
		"links": sc.converged,
		"confirmed": func() bool {
			return !slices.ContainsFunc(sc.alive(), func(n *simNode) bool { return len(n.announced) > 0 })
		},
	}[w[0]]
	require.NotNil(sc.t, what, at)
	sc.t.Log(at, sc.until(sc.duration(at, w, 2), at, what))
}
