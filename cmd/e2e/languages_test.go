package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/spec/endpoint"
)

// What a binding writes and reads, as conformance/docs/subject.md says: the subjects
// of the suite are also what this test lets talk to each other.
type (
	fields  map[string]any
	content struct {
		Payload []byte            `json:"payload"`
		Headers map[string]string `json:"headers"`
	}
	line struct {
		content
		ID      int     `json:"id"`
		OK      content `json:"ok"`
		Error   string  `json:"error"`
		Text    string  `json:"text"`
		Notice  string  `json:"notice"`
		Request string  `json:"request"`
		Topic   string  `json:"topic"`
	}
)

// A speaker is a program in some language: a service of its own cluster, at a node.
type speaker struct {
	language string
	port     int
	in       io.Writer
	heard    chan line // broadcasts and events

	mu      sync.Mutex // guards the fields below, and in
	last    int
	answers map[int]chan line
}

// The services are named like their languages, with letters that are not ASCII.
func (s *speaker) cluster() string { return "läßt-" + s.language }

func speak(t *testing.T, language string, n *cluster.Node, command ...string) *speaker {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), endpoint.RuntimeDir+"="+filepath.Dir(n.Log))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	log := &bytes.Buffer{}
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	s := &speaker{language: language, port: n.Port, in: in, heard: make(chan line, 100), answers: map[int]chan line{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.read(out)
	}()
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		<-read
		require.NoError(t, cmd.Wait(), "%s: %s", language, log)
	})
	s.ok(t, "register", fields{"conn": "c", "port": s.port, "cluster": s.cluster()})
	return s
}

func (s *speaker) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for b, err := lines.ReadBytes('\n'); err == nil; b, err = lines.ReadBytes('\n') {
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return
		}
		switch {
		case l.Notice == "request":
			s.serve(l)
		case l.Notice != "":
			s.heard <- l
		default:
			s.mu.Lock()
			answer := s.answers[l.ID]
			s.mu.Unlock()
			answer <- l
		}
	}
}

// serve answers in capitals, with the headers that came and its language; "fail" fails.
func (s *speaker) serve(l line) {
	reply := fields{"request": l.Request, "payload": bytes.ToUpper(l.Payload), "headers": with(l.Headers, "by", s.language)}
	if string(l.Payload) == "fail" {
		reply = fields{"request": l.Request, "error": "das läßt " + s.language + " nicht zu"}
	}
	s.send("reply", reply)
}

func with(headers map[string]string, name, value string) map[string]string {
	more := map[string]string{name: value}
	for k, v := range headers {
		more[k] = v
	}
	return more
}

// send sends a command; its answer comes through the channel.
func (s *speaker) send(op string, f fields) chan line {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	answer := make(chan line, 1)
	s.answers[s.last] = answer
	f["op"], f["id"] = op, s.last
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // fields are of this file
	}
	_, _ = s.in.Write(append(b, '\n')) // that it is gone shows in the missing answer
	return answer
}

func (s *speaker) ok(t *testing.T, op string, f fields) content {
	t.Helper()
	l := await(t, s.send(op, f))
	require.Empty(t, l.Error, "%s of %s: %s", op, s.language, l.Text)
	return l.OK
}

func TestThreeLanguagesOnThreeNodesTalkToEachOther(t *testing.T) {
	python, typescript := os.Getenv("IRIS_PYTHON_SUBJECT"), os.Getenv("IRIS_TYPESCRIPT_SUBJECT")
	if python == "" || typescript == "" {
		t.Skip("IRIS_PYTHON_SUBJECT and IRIS_TYPESCRIPT_SUBJECT name the commands of the bindings' subjects: .ci/run sets them")
	}
	subject := filepath.Join(t.TempDir(), "iris-subject")
	out, err := exec.Command("go", "build", "-o", subject, "../iris-subject").CombinedOutput()
	require.NoError(t, err, string(out))
	c := startCluster(t, 3)
	all := []*speaker{
		speak(t, "go", c.Nodes[0], subject),
		speak(t, "python", c.Nodes[1], strings.Fields(python)...),
		speak(t, "typescript", c.Nodes[2], strings.Fields(typescript)...),
	}
	for i, from := range all {
		for j, to := range all {
			t.Run(from.language+" to "+to.language, func(t *testing.T) {
				askEachOther(t, from, to)
				tellEachOther(t, from, to)
				size := 1 << 20
				if j == (i+1)%len(all) {
					size = 64 << 20 // one way round
				}
				streamToEachOther(t, from, to, size)
			})
		}
	}
	publishToAll(t, all)
}

func askEachOther(t *testing.T, from, to *speaker) {
	headers := map[string]string{"spur": "größe", "": "empty names are names"}
	for _, payload := range []string{"hallo", ""} {
		reply := from.ok(t, "request", fields{"conn": "c", "cluster": to.cluster(), "payload": []byte(payload), "headers": headers, "timeout_ms": 20_000})
		require.Equal(t, strings.ToUpper(payload), string(reply.Payload))
		require.Equal(t, with(headers, "by", to.language), reply.Headers)
	}
	failed := await(t, from.send("request", fields{"conn": "c", "cluster": to.cluster(), "payload": []byte("fail"), "timeout_ms": 20_000}))
	require.Equal(t, "failed", failed.Error)
	require.Equal(t, "das läßt "+to.language+" nicht zu", failed.Text)
}

func tellEachOther(t *testing.T, from, to *speaker) {
	headers := map[string]string{"von": from.language}
	for _, payload := range []string{"an alle", ""} {
		from.ok(t, "broadcast", fields{"conn": "c", "cluster": to.cluster(), "payload": []byte(payload), "headers": headers})
		got := await(t, to.heard)
		require.Equal(t, "broadcast", got.Notice)
		require.Equal(t, payload, string(got.Payload))
		require.Equal(t, headers, got.Headers)
	}
}

// streamToEachOther sends a large message there, an empty one and it back, and closes.
func streamToEachOther(t *testing.T, from, to *speaker, size int) {
	name := fmt.Sprintf("%s-%s", from.language, to.language)
	accepted := to.send("tunnel-accept", fields{"conn": "c", "tunnel": name + "-there"})
	from.ok(t, "tunnel-open", fields{"conn": "c", "tunnel": name, "cluster": to.cluster(), "headers": map[string]string{"zweck": "größtes"}, "timeout_ms": 20_000})
	require.Equal(t, map[string]string{"zweck": "größtes"}, await(t, accepted).OK.Headers)
	message := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(message)

	sent := from.send("tunnel-send", fields{"tunnel": name, "payload": message})
	got := to.ok(t, "tunnel-recv", fields{"tunnel": name + "-there"})
	require.True(t, bytes.Equal(message, got.Payload), "%d of %d bytes came", len(got.Payload), size)
	require.Empty(t, await(t, sent).Error)

	back := to.send("tunnel-send", fields{"tunnel": name + "-there", "payload": []byte{}})
	require.Empty(t, from.ok(t, "tunnel-recv", fields{"tunnel": name}).Payload)
	require.Empty(t, await(t, back).Error)
	ended := to.send("tunnel-recv", fields{"tunnel": name + "-there"})
	closed := from.send("tunnel-close", fields{"tunnel": name, "how": "close"})
	require.Equal(t, "end", await(t, ended).Error)
	to.ok(t, "tunnel-close", fields{"tunnel": name + "-there", "how": "close"})
	require.Empty(t, await(t, closed).Error)
}

func publishToAll(t *testing.T, all []*speaker) {
	const topic = "straße"
	for _, s := range all {
		s.ok(t, "subscribe", fields{"conn": "c", "topic": topic})
	}
	for _, from := range all {
		from.ok(t, "publish", fields{"conn": "c", "topic": topic, "payload": []byte(from.language), "headers": map[string]string{"art": "ereignis"}})
		for _, to := range all {
			got := await(t, to.heard)
			require.Equal(t, "event", got.Notice)
			require.Equal(t, topic, got.Topic)
			require.Equal(t, from.language, string(got.Payload))
			require.Equal(t, map[string]string{"art": "ereignis"}, got.Headers)
		}
	}
}
