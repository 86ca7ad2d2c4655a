package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// open makes the place where the subject finds the node of this case.
func (p *player) open(endpoint string) (err error) {
	p.server, err = newServer(endpoint, p.subject.dir)
	return err
}

// release closes what the case has left open in the subject, and waits for that a
// while: one that still looks for its node would find that of another case.
func (p *player) release() {
	over, cancel := context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	var closing []*command
	for _, conn := range p.attached {
		if c, err := p.subject.send(p, map[string]any{"op": "close", "conn": conn}); err == nil {
			closing = append(closing, c)
		}
	}
	for _, c := range closing {
		select {
		case <-c.done:
		case <-over.Done():
		}
	}
	p.subject.forget(p)
}

// A commanding sends a command to the subject.
type commanding struct {
	name   string // by which answer finds it
	fields map[string]any
}

// commandFields are the fields of all commands, docs/subject.md.
var commandFields = map[string]string{
	"op": "text", "conn": "own", "tunnel": "own", "cluster": "text", "topic": "text", "payload": "payload", "headers": "headers",
	"request": "ref", "command": "command", "error": "text", "how": "text", "reason": "text", "port": "number",
	"timeout_ms": "number", "reconnect_ms": "number", "limits": "numbers",
}

// withoutConn are the ops that name no connection.
var withoutConn = []string{"info", "cancel", "reply", "tunnel-send", "tunnel-recv", "tunnel-close"}

func parseCommand(w *written) (action, error) {
	if w.value.Kind != yaml.MappingNode {
		return nil, errors.New("want a map with op")
	}
	c := &commanding{fields: map[string]any{}}
	for i := 0; i < len(w.value.Content); i += 2 {
		key, n := w.value.Content[i].Value, w.value.Content[i+1]
		v, err := parseCommandField(commandFields[key], n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		c.fields[key] = v
	}
	op, _ := c.fields["op"].(string)
	if op == "" {
		return nil, errors.New("want a map with op")
	}
	if _, has := c.fields["conn"]; !has && !slices.Contains(withoutConn, op) {
		c.fields["conn"] = own("c")
	}
	c.name = op
	if n := w.take("as"); n != nil {
		c.name = n.Value
	}
	return c, nil
}

// Fields of a command that depend on the play.
type (
	own       string // a name of the suite's choice
	commandOf string // the id of an earlier command
)

func parseCommandField(kind string, n *yaml.Node) (any, error) {
	switch kind {
	case "text":
		return parseText(aString, n)
	case "own":
		return own(n.Value), nil
	case "ref":
		return ref(strings.TrimPrefix(n.Value, "$")), nil
	case "command":
		return commandOf(n.Value), nil
	case "number":
		return strconv.ParseInt(n.Value, 10, 64)
	case "headers":
		return parseFieldMap(aMap, n)
	case "numbers":
		return parseFieldMap(limitMap, n)
	case "payload":
		b, err := parseText(aPayload, n)
		if err != nil {
			return nil, err
		}
		return base64.StdEncoding.EncodeToString(b.([]byte)), nil
	}
	return nil, errors.New("unknown field")
}

func (s *commanding) play(_ context.Context, p *player, _ string) error {
	if err := p.flush(); err != nil {
		return err
	}
	fields := map[string]any{}
	for key, v := range s.fields {
		switch v := v.(type) {
		case own:
			fields[key] = string(v) + p.unique
		case ref:
			fields[key] = p.refs[v]
		case commandOf:
			c := p.commands[string(v)]
			if c == nil {
				return fmt.Errorf("there is no command %q yet", v)
			}
			fields[key] = c.id
		default:
			fields[key] = v
		}
	}
	if s.fields["op"] == "connect" || s.fields["op"] == "register" {
		if fields["port"] == nil {
			fields["port"] = p.server.port
		}
		p.attached = append(p.attached, fields["conn"].(string))
	}
	c, err := p.subject.send(p, fields)
	if err != nil {
		return err
	}
	p.trace.note("control", fmt.Sprintf("command %d %s: %s", c.id, s.name, drawJSON(fields)))
	p.commands[s.name] = c
	return nil
}

func drawJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(text) > 200 {
		return string(text[:200]) + "…"
	}
	return string(text)
}

// An answering awaits the answer to a command.
type answering struct {
	name   string
	ok     map[string]any // nil and no errors: whatever, if it is ok
	errors []string
	text   *string
	within time.Duration
}

func parseAnswer(w *written) (action, error) {
	a := &answering{name: w.value.Value}
	if n := w.take("ok"); n != nil {
		var err error
		if a.ok, err = parseControl(n); err != nil {
			return nil, err
		}
	}
	if n := w.take("error"); n != nil {
		a.errors = []string{n.Value}
		if n.Kind == yaml.SequenceNode {
			a.errors = nil
			for _, element := range n.Content {
				a.errors = append(a.errors, element.Value)
			}
		}
	}
	if n := w.take("text"); n != nil {
		v, err := parseText(aString, n)
		if err != nil {
			return nil, err
		}
		text := v.(string)
		a.text = &text
	}
	if n := w.take("within"); n != nil {
		var err error
		if a.within, err = parseDuration(n); err != nil {
			return nil, err
		}
	}
	if a.name == "" || a.ok != nil && a.errors != nil {
		return nil, errors.New("want the name of a command, and ok or error")
	}
	return a, nil
}

// parseControl reads what the fields of an answer or a notice are to be.
func parseControl(n *yaml.Node) (map[string]any, error) {
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("want a map")
	}
	m := map[string]any{}
	for i := 0; i < len(n.Content); i += 2 {
		key, element := n.Content[i].Value, n.Content[i+1]
		var v any
		var err error
		switch key {
		case "payload":
			v, err = parseField(aPayload, element)
		case "headers":
			v, err = parseFieldMap(aMap, element)
		case "request", "budget_ms":
			v, err = parseNumber(anID, element)
		case "conn":
			v = own(element.Value)
		case "topic", "text":
			v, err = parseField(aString, element)
		default:
			err = errors.New("unknown field")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		m[key] = v
	}
	return m, nil
}

func (s *answering) play(ctx context.Context, p *player, _ string) error {
	c := p.commands[s.name]
	if c == nil {
		return fmt.Errorf("there is no command %q yet", s.name)
	}
	err := p.wait(ctx, max(s.within, p.patience), func() (bool, error) {
		select {
		case <-c.done:
			return true, nil
		default:
			return false, nil
		}
	})
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	p.trace.note("control", fmt.Sprintf("answer %d %s: %s", c.id, s.name, drawJSON(c.answer)))
	switch {
	case s.errors != nil && !slices.Contains(s.errors, c.answer.Error):
		return fmt.Errorf("the answer is %s, want the error %s", drawJSON(c.answer), strings.Join(s.errors, " or "))
	case s.errors == nil && c.answer.Error != "":
		return fmt.Errorf("the answer is %s, want ok", drawJSON(c.answer))
	case s.text != nil && *s.text != c.answer.Text:
		return fmt.Errorf("the text is %s, want %s", short(c.answer.Text), short(*s.text))
	}
	return p.compareControl(s.ok, c.answer.OK)
}

// compareControl compares fields of JSON.
func (p *player) compareControl(want, got map[string]any) error {
	took := map[ref]any{}
	for key, w := range want {
		v := got[key]
		switch g := v.(type) {
		case float64:
			if g >= 0 {
				v = uint64(g)
			}
		case nil:
			if key == "headers" {
				v = map[string]any{}
			}
		case string:
			if key == "payload" {
				b, err := base64.StdEncoding.DecodeString(g)
				if err != nil {
					return fmt.Errorf("payload: %w", err)
				}
				v = b
			}
		}
		if name, is := w.(own); is {
			w = string(name) + p.unique
		}
		if !p.matches(w, v, took) {
			return fmt.Errorf("%s is %s, want %s", key, short(v), short(w))
		}
	}
	for name, v := range took {
		p.refs[name] = v
	}
	return nil
}

// A noticing awaits the next notice of a kind.
type noticing struct {
	kind string
	with map[string]any
	any  bool // not the next one, but any that is as wanted
}

func parseNotice(w *written) (action, error) {
	a := &noticing{kind: w.value.Value}
	if !slices.Contains(noticeKinds, a.kind) {
		return nil, fmt.Errorf("unknown notice %q", a.kind)
	}
	if n := w.take("any"); n != nil {
		a.any = n.Value == "true"
	}
	if n := w.take("with"); n != nil {
		var err error
		if a.with, err = parseControl(n); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// noticeKinds are the notices of docs/subject.md.
var noticeKinds = []string{"request", "cancelled", "broadcast", "event", "dropped"}

func (s *noticing) play(ctx context.Context, p *player, _ string) error {
	var mismatch error
	err := p.wait(ctx, p.patience, func() (bool, error) {
		for i, n := range p.notices {
			if n["notice"] != s.kind {
				continue
			}
			if mismatch = p.compareControl(s.with, n); mismatch == nil {
				p.trace.note("control", "notice: "+drawJSON(n))
				p.notices = slices.Delete(slices.Clone(p.notices), i, i+1)
				return true, nil
			}
			if !s.any {
				return true, nil
			}
		}
		return false, nil
	})
	if mismatch != nil {
		return fmt.Errorf("the notice of a %s: %w", s.kind, mismatch)
	}
	if err != nil {
		return fmt.Errorf("no notice of a %s: %w", s.kind, err)
	}
	return nil
}

// A silentAssertion: no notice of a kind comes for a while.
type silentAssertion struct {
	kind  string
	while time.Duration
}

func parseAssertQuiet(w *written) (action, error) {
	a := &silentAssertion{w.value.Value, 200 * time.Millisecond}
	if !slices.Contains(noticeKinds, a.kind) {
		return nil, fmt.Errorf("unknown notice %q", a.kind)
	}
	if n := w.take("for"); n != nil {
		var err error
		if a.while, err = parseDuration(n); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (s *silentAssertion) play(ctx context.Context, p *player, _ string) error {
	err := p.wait(ctx, s.while, func() (bool, error) {
		for _, n := range p.notices {
			if n["notice"] == s.kind {
				return true, fmt.Errorf("a notice came: %s", drawJSON(n))
			}
		}
		return false, nil
	})
	if errors.Is(err, errPatience) {
		return nil
	}
	return err
}
