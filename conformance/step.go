package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A step is one thing that is done or awaited.
type step struct {
	line   int
	on     string // name of the connection
	source *yaml.Node
	action action
}

// An action is what a step does. docs/cases.md describes them.
type action interface {
	play(ctx context.Context, p *player, on string) error
}

// String gives the step as it is written, on one line.
func (s step) String() string {
	text, err := yaml.Marshal(s.source)
	if err != nil {
		return fmt.Sprintf("line %d", s.line)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// defaultConn is the connection of steps that name none.
const defaultConn = "client"

// maxSteps bounds what a case may repeat.
const maxSteps = 20_000

// A written step is a map: "[connection] verb" first, then further keys.
type written struct {
	mode  Mode
	value *yaml.Node            // of the verb
	more  map[string]*yaml.Node // the further keys
}

// take removes a further key.
func (w *written) take(key string) *yaml.Node {
	n := w.more[key]
	delete(w.more, key)
	return n
}

// verbs are the actions by their names.
var verbs = map[string]func(w *written) (action, error){
	"attach":          parseAttach,
	"dial":            parseDial,
	"accept":          parseAccept,
	"listen":          parseListen,
	"close":           parseClose,
	"stall_read":      parseStall,
	"delay":           parseDelay,
	"send":            parseSend,
	"send_raw":        parseSendRaw,
	"expect":          parseExpect,
	"expect_welcome":  parseExpectWelcome,
	"any_order":       parseAnyOrder,
	"await_credit":    parseAwaitCredit,
	"await_allowance": parseAwaitAllowance,
	"assert_open":     parseAssertOpen,
	"assert_no_frame": parseAssertNoFrame,
	"assert_closed":   parseAssertClosed,
	"assert_shortest": parseAssertShortest,
	"command":         parseCommand,
	"answer":          parseAnswer,
	"notice":          parseNotice,
	"assert_quiet":    parseAssertQuiet,
	"assert_silent":   parseAssertSilent,
	"assert_pending":  parseAssertPending,
	"assert_memory":   parseAssertMemory,
	"send_message":    parseSendMessage,
	"expect_message":  parseExpectMessage,
	"overdraw":        parseOverdraw,
}

// only are the verbs of one mode.
var only = map[string]Mode{
	"attach": Relay, "dial": Relay, "expect_welcome": Relay, "accept": Binding, "listen": Binding, "await_credit": Binding, "await_allowance": Binding,
	"command": Binding, "answer": Binding, "notice": Binding, "assert_quiet": Binding, "assert_pending": Binding, "overdraw": Binding, "assert_memory": Binding, "assert_shortest": Binding,
}

// parseSteps reads a list of steps; use and repeat are replaced by what they stand for.
func parseSteps(list *yaml.Node, mode Mode, scripts map[string]yaml.Node, depth int) ([]step, error) {
	if list.Kind != yaml.SequenceNode || depth > 8 {
		return nil, &lineError{list.Line, errors.New("want a list of steps, nested at most 8 deep")}
	}
	var steps []step
	for _, n := range list.Content {
		more, err := parseStep(n, mode, scripts, depth)
		if err != nil {
			var line *lineError
			if !errors.As(err, &line) {
				err = &lineError{n.Line, err}
			}
			return nil, err
		}
		if steps = append(steps, more...); len(steps) > maxSteps {
			return nil, &lineError{n.Line, fmt.Errorf("more than %d steps", maxSteps)}
		}
	}
	return steps, nil
}

func parseStep(n *yaml.Node, mode Mode, scripts map[string]yaml.Node, depth int) ([]step, error) {
	if n.Kind != yaml.MappingNode || len(n.Content) < 2 {
		return nil, errors.New("a step is a map: verb, then what belongs to it")
	}
	first, w := n.Content[0].Value, &written{mode: mode, value: n.Content[1], more: map[string]*yaml.Node{}}
	for i := 2; i < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if w.more[key] != nil {
			return nil, fmt.Errorf("key %q twice", key)
		}
		w.more[key] = n.Content[i+1]
	}
	on, verb := defaultConn, first
	if i := strings.LastIndexByte(first, ' '); i >= 0 {
		on, verb = first[:i], first[i+1:]
	}
	switch {
	case verb == "use":
		script, known := scripts[w.value.Value]
		if !known || len(w.more) > 0 {
			return nil, fmt.Errorf("unknown script %q", w.value.Value)
		}
		return parseSteps(&script, mode, scripts, depth+1)
	case verb == "repeat":
		return parseRepeat(w, scripts, depth)
	case verbs[verb] == nil:
		return nil, fmt.Errorf("unknown verb %q", verb)
	case only[verb] != "" && only[verb] != mode:
		return nil, fmt.Errorf("%s is of mode %s", verb, only[verb])
	}
	a, err := verbs[verb](w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	if len(w.more) > 0 {
		return nil, fmt.Errorf("%s: unknown key %q", verb, slices.Sorted(maps.Keys(w.more))[0])
	}
	return []step{{n.Line, on, n, a}}, nil
}

// parseRepeat repeats steps; {i} in them counts from 0.
func parseRepeat(w *written, scripts map[string]yaml.Node, depth int) ([]step, error) {
	times, err := strconv.Atoi(w.value.Value)
	list := w.take("steps")
	if err != nil || times < 1 || times > maxSteps || list == nil || len(w.more) > 0 {
		return nil, fmt.Errorf("repeat: want a number up to %d and steps", maxSteps)
	}
	var steps []step
	for i := range times {
		more, err := parseSteps(numbered(list, strconv.Itoa(i)), w.mode, scripts, depth+1)
		if err != nil {
			return nil, err
		}
		if steps = append(steps, more...); len(steps) > maxSteps {
			return nil, fmt.Errorf("repeat: more than %d steps", maxSteps)
		}
	}
	return steps, nil
}

// numbered is a copy of n in which i replaces {i}.
func numbered(n *yaml.Node, i string) *yaml.Node {
	c := *n
	c.Value = strings.ReplaceAll(c.Value, "{i}", i)
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, numbered(child, i))
	}
	return &c
}

// empty is the error of a verb that takes nothing and got something.
func empty(n *yaml.Node) error {
	if n.Tag != "!!null" {
		return errors.New("takes no value")
	}
	return nil
}

func parseDuration(n *yaml.Node) (time.Duration, error) {
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 || d > time.Minute {
		return 0, fmt.Errorf("want a time of at most a minute such as 200ms, not %q", n.Value)
	}
	return d, nil
}
